/** The instruction mix of kernels, from the machine code that `cuobjdump -sass` or `nvdisasm` print. Pure. */

/** Classes of instructions, by the first part of their names. */
const CLASSES: readonly (readonly [name: string, opcodes: RegExp])[] = [
  ['global loads', /^(LDG|LD|LDGSTS|UBLKCP)$/],
  ['global stores', /^(STG|ST|RED|ATOMG?|ATOM)$/],
  ['local memory', /^(LDL|STL)$/],
  ['shared memory', /^(LDS|STS|LDSM|STSM|ATOMS)$/],
  ['prefetch', /^(CCTL|PREFETCH)$/],
  ['tensor cores', /^(HMMA|IMMA|BMMA|DMMA|HGMMA|IGMMA|QGMMA|QMMA)$/],
  [
    'floating point',
    /^(F(ADD|MUL|FMA|MNMX|SETP?|SEL|CHK|SWZADD)|MUFU|H(ADD|MUL|FMA|SET|SETP|MNMX)2?|D\w+)\d*$/,
  ],
  ['conversions', /^(F2F|F2I|I2F|I2I|F2FP|I2FP|FRND|PRMT)$/],
  [
    'integer and addresses',
    /^U?(IADD3?|IMAD|IMUL|ISETP|LEA|LOP3?|SHF|SHL|SHR|IABS|IMNMX|VIMNMX|SEL|FLO|POPC|BREV|BMSK|SGXT|ISCADD|IDP|MOV|MOV32I|PLOP3|P2R|R2P|CSEL|S2R|S2UR|CS2R|R2UR|LDC|LDCU|ULDC|VOTEU?|VOTE|SHFL|MATCH|REDUX|PSETP)$/,
  ],
  [
    'control',
    /^U?(BRA|BRX|JMP|EXIT|RET|CALL|BSSY|BSYNC|BREAK|BAR|WARPSYNC|NOP|YIELD|NANOSLEEP|DEPBAR|LDGDEPBAR|MEMBAR|ERRBAR|BPT|KILL|WARPSYNC)$/,
  ],
];

/** How many instructions of each class every function has; NOPs that pad its end are left out. */
export function instructionMix(sass: string): Map<string, Record<string, number>> {
  const functions = new Map<string, Record<string, number>>();
  let own: Record<string, number> | undefined;
  for (const line of sass.split('\n')) {
    const name = /^\s*(?:Function\s*:\s*|\.text\.)(\w+)/.exec(line)?.[1];
    if (name !== undefined) {
      own = functions.get(name) ?? {};
      functions.set(name, own);
      continue;
    }
    const opcode = /^\s*\/\*[0-9a-f]{4,}\*\/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)/.exec(line)?.[1];
    if (opcode === undefined || own === undefined || opcode === 'NOP') continue;
    const kind = CLASSES.find(([, opcodes]) => opcodes.test(opcode))?.[0] ?? 'other';
    own[kind] = (own[kind] ?? 0) + 1;
  }
  return functions;
}
