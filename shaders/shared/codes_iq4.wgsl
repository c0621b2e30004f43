// The codes of IQ4_NL and IQ4_XS, as signed bytes.
const CODE_0 = 129u;
const CODE_1 = 152u;
const CODE_2 = 173u;
const CODE_3 = 191u;
const CODE_4 = 207u;
const CODE_5 = 221u;
const CODE_6 = 234u;
const CODE_7 = 246u;
const CODE_8 = 1u;
const CODE_9 = 13u;
const CODE_10 = 25u;
const CODE_11 = 38u;
const CODE_12 = 53u;
const CODE_13 = 69u;
const CODE_14 = 89u;
const CODE_15 = 113u;
