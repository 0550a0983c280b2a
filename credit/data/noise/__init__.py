"""Wrong training labels, drawn from a seed of their own or given by people; the clean labels are kept.

| kind | a label of class c becomes | source |
|---|---|---|
| symmetric | another class, uniformly, where it is chosen | uniform noise, the default reading of "random labels" |
| uniform | any class, uniformly, where it is chosen; c again with probability 1/C | by which 40 % leaves 36 % wrong at C = 10 |
| pair_flip | c + 1 modulo C, where it is chosen | Han et al. 2018 (co-teaching) |
| asymmetric | its look-alike in CIFAR-10 (`drawn.CIFAR10_PAIRS`), where it is chosen and has one | Patrini et al. 2017 |
| matrix | class j with probability T[c, j], T being read from a file | Patrini et al. 2017 |
| instance | a class that depends on the example too (`instance`) | Xia et al. 2020 |
| human | what people said of the image: CIFAR-10N, CIFAR-100N (`human`) | Wei et al. 2022 |

The first four choose exactly round(rate * N) labels. A kind is a function ``(labels, rate, classes, generator)``: int64 labels
(N,), a copy; `rate` of `NoiseConfig`; the number of classes; a torch generator from which all is drawn. A function with an
argument `part` behind these gets the labelled examples too (`credit.data.noise.part.Part`). It returns the noisy labels.
Keyword-only arguments are options.

Only the training part is touched, and with ``data.val_noise=true`` the validation part. Test labels stay clean.
"""
