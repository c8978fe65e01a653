// Computes LeNet-5's first convolution from the memory files, and compares it with their outputs.
module first_convolution;
  reg        [7:0]  images  [0:10*784-1];
  reg signed [7:0]  weights [0:6*25-1];
  reg signed [31:0] biases  [0:5];
  reg        [7:0]  outputs [0:10*6*576-1];
  reg signed [31:0] sum;
  reg        [7:0]  value;
  integer n, map, y, x, i, j, wrong;

  initial begin
    $readmemh("images.mem", images);
    $readmemh("layer1_weights.mem", weights);
    $readmemh("layer1_biases.mem", biases);
    $readmemh("layer1_outputs.mem", outputs);
    wrong = 0;
    for (n = 0; n < 10; n = n + 1) for (map = 0; map < 6; map = map + 1)
      for (y = 0; y < 24; y = y + 1) for (x = 0; x < 24; x = x + 1) begin
        sum = biases[map];
        for (i = 0; i < 5; i = i + 1) for (j = 0; j < 5; j = j + 1)
          sum = sum + weights[25*map + 5*i + j]
                * $signed({1'b0, images[784*n + 28*(y + i) + x + j]});
        value = sum < 0 ? 0 : (sum >>> `SHIFT) > 255 ? 255 : sum >>> `SHIFT;
        if (value !== outputs[((n*6 + map)*24 + y)*24 + x]) wrong = wrong + 1;
      end
    $display("%0d wrong", wrong);
  end
endmodule
