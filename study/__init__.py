"""Many runs: is a difference more than noise?"""
