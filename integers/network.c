/* Written by {{mark}}

   {{title}} in integers:

       int {{name}}(const uint8_t image[784], int32_t logits[10]);

   gives the digit, 0 to 9, that an image shows. An image has 28 rows of 28 bytes, from the top;
   0 is ground and 255 is ink, and the digit is centred as MNIST's are. A logit of the network is
   logits[digit] / 2^{{exponent}}; the largest one is the answer.

   The weights are those of {{checkpoint}}. On the test set ({{data}}), {{integer}} of the
   answers are right (in floating point {{real}}), and {{same}} are those of floating point.

   Weights have {{bits}} bits, activations 8, sums 32. Constants: {{constants}} bytes. RAM: {{memory}} bytes.
   To test it: cc -std=c99 -D{{test}} {{name}}.c && ./a.out */

#include <stdint.h>
/*---- hidden ----*/

/* What the layers compute: each one reads one part of it and writes the other. */
static uint8_t memory[{{activations}}];

/* From a sum to an activation of 8 bits. The biases hold half a step: the shift rounds. */
static uint8_t activation(int32_t sum, int shift)
{
    if (sum < 0)
        return 0;
    sum >>= shift;
    return (uint8_t)(sum > 255 ? 255 : sum);
}
/*---- Conv2d ----*/

/* Layer {{n}}, a convolution: {{inputs}} to {{outputs}}. */
static const int8_t weights{{n}}[{{maps}}][{{channels}}][{{rows}}][{{columns}}] = {{weights}};
static const int32_t biases{{n}}[{{maps}}] = {{biases}};

static void layer{{n}}(const uint8_t *in, {{type}} *out)
{
    for (int map = 0; map < {{maps}}; map++)
        for (int y = 0; y < {{height_out}}; y++) {
            int32_t sums[{{width_out}}]; /* of a whole row: each weight meets all its pixels at once */
            for (int x = 0; x < {{width_out}}; x++)
                sums[x] = biases{{n}}[map];
            for (int channel = 0; channel < {{channels}}; channel++)
                for (int i = 0; i < {{rows}}; i++)
                    for (int j = 0; j < {{columns}}; j++) {
                        const int weight = weights{{n}}[map][channel][i][j];
                        const uint8_t *row = in + (channel * {{height}} + y + i) * {{width}} + j;
                        for (int x = 0; x < {{width_out}}; x++)
                            sums[x] += weight * row[x];
                    }
            for (int x = 0; x < {{width_out}}; x++)
                out[(map * {{height_out}} + y) * {{width_out}} + x] = {{result}};
        }
}
/*---- MaxPool2d ----*/

/* Layer {{n}}, the largest of each {{size}} x {{size}}: {{inputs}} to {{outputs}}. */
static void layer{{n}}(const uint8_t *in, uint8_t *out)
{
    for (int map = 0; map < {{channels}}; map++)
        for (int y = 0; y < {{height_out}}; y++)
            for (int x = 0; x < {{width_out}}; x++) {
                uint8_t largest = 0;
                for (int i = 0; i < {{size}}; i++)
                    for (int j = 0; j < {{size}}; j++) {
                        const int row = map * {{height}} + {{size}} * y + i;
                        const uint8_t value = in[row * {{width}} + {{size}} * x + j];
                        if (value > largest)
                            largest = value;
                    }
                out[(map * {{height_out}} + y) * {{width_out}} + x] = largest;
            }
}
/*---- Linear ----*/

/* Layer {{n}}, fully connected: {{inputs}} to {{outputs}}. */
static const int8_t weights{{n}}[{{maps}}][{{channels}}] = {{weights}};
static const int32_t biases{{n}}[{{maps}}] = {{biases}};

static void layer{{n}}(const uint8_t *in, {{type}} *out)
{
    for (int unit = 0; unit < {{maps}}; unit++) {
        int32_t sum = biases{{n}}[unit];
        for (int i = 0; i < {{channels}}; i++)
            sum += weights{{n}}[unit][i] * in[i];
        out[unit] = {{result}};
    }
}
/*---- end ----*/
int {{name}}(const uint8_t image[784], int32_t logits[10])
{
    int digit = 0;
{{calls}}
    for (int other = 1; other < 10; other++)
        if (logits[other] > logits[digit])
            digit = other;
    return digit;
}

#ifdef {{test}}
#include <stdio.h>

/* {{count}} digits of the test set, and the logits of this network in Python. */
static const uint8_t images[{{count}}][784] = {{images}};
static const int32_t expected[{{count}}][10] = {{expected}};

int main(void)
{
    int right = 0;
    for (int n = 0; n < {{count}}; n++) {
        int32_t logits[10];
        int same = 1;
        const int digit = {{name}}(images[n], logits);
        for (int k = 0; k < 10; k++)
            same = same && logits[k] == expected[n][k] && expected[n][k] <= expected[n][digit];
        right += same;
    }
    printf("{{name}}: %d of {{count}} digits have the expected logits\n", right);
    return right == {{count}} ? 0 : 1;
}
#endif
