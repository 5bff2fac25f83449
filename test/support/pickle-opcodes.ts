/** Opcodes of pickles that work on what is on the stack, and take nothing from the stream. */
export const STACK_OPCODES: readonly string[] = [...'(012tldaesubRQo'];
