// The codes of MXFP4 and NVFP4, as signed bytes: twice the floats of 4 bits (E2M1).
const CODE_0 = 0u;
const CODE_1 = 1u;
const CODE_2 = 2u;
const CODE_3 = 3u;
const CODE_4 = 4u;
const CODE_5 = 6u;
const CODE_6 = 8u;
const CODE_7 = 12u;
const CODE_8 = 0u;
const CODE_9 = 255u;
const CODE_10 = 254u;
const CODE_11 = 253u;
const CODE_12 = 252u;
const CODE_13 = 250u;
const CODE_14 = 248u;
const CODE_15 = 244u;
