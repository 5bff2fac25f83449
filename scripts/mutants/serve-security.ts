/** Who may ask a server, how TLS is set up, and what a client sends again. */
import { type Mutant, mutantsOf } from './mutant.ts';

const TOKENS = ['test/serve/security/tokens.test.ts'];
const GUARD = ['test/serve/security/guard.test.ts'];
const TLS = ['test/serve/security/tls.test.ts', 'test/serve/security/front-door.test.ts'];
const TRACE = ['test/serve/recording/trace-context.test.ts'];
const CLIENT = ['test/client/retries.test.ts', 'test/client/client.test.ts'];
const CLIENT_REQUEST = ['test/client/request.test.ts'];
const CLIENT_TENSORS = ['test/client/tensors.test.ts'];

export const SERVE_SECURITY: readonly Mutant[] = [
  ...mutantsOf(
    'src/serve/security/tokens.ts',
    [
      ['{16,512}', '{1,512}'],
      ['{16,512}', '{16,}'],
      ["token === '' || token.startsWith('#')", "token === ''"],
      ['holds = timingSafeEqual(known, digest) || holds', 'holds = timingSafeEqual(known, digest)'],
      ['let holds = false', 'let holds = digests.length === 0'],
      ['if (tokens.length > MOST_TOKENS)', 'if (tokens.length > 2 * MOST_TOKENS)'],
      ['/^Bearer +(\\S+) *$/i', '/Bearer +(\\S+)/i'],
    ],
    TOKENS,
  ),
  ...mutantsOf(
    'src/serve/security/guard.ts',
    [
      ['!this.#origins.has(origin) && !isOwn(origin, host)', '!isOwn(origin, host)'],
      ['!this.#origins.has(origin) && !isOwn(origin, host)', '!this.#origins.has(origin)'],
      ["need === 'admin-token' && !this.#isAdministered", 'false'],
      ["need === 'admin-token' && wanted === undefined && !isOfLoopback(host ?? '')", 'false'],
      ["'admin-token': adminTokens ?? all", "'admin-token': all"],
      ['[...tokens, ...(adminTokens ?? [])]', 'tokens'],
      ["  load: 'admin-token',", "  load: 'token',"],
      ["  metrics: 'token',", "  metrics: 'nothing',"],
      ["return route === undefined ? 'token' :", "return route === undefined ? 'nothing' :"],
    ],
    [...GUARD, 'test/serve/security/front-door.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/security/loopback.ts',
    [
      ['(?:\\.\\d{1,3}){3}$/', '/'],
      ['.toLowerCase()', ''],
      [".replace(/^\\[(.*)\\]$/, '$1')", ''],
    ],
    GUARD,
  ),
  ...mutantsOf(
    'src/serve/security/tls.ts',
    [
      [
        "minVersion: 'TLSv1.2'",
        "minVersion: 'TLSv1'",
        'OpenSSL 3 signs no handshake as older versions do at its usual level of security; older ones would',
      ],
      ['requestCert: true, rejectUnauthorized: true', 'requestCert: true, rejectUnauthorized: false'],
      ['for (const one of chain) checkValidity', 'for (const one of chain.slice(0, 1)) checkValidity'],
      ['if (Date.parse(validFrom) > now)', 'if (false)'],
      ['if (!isOfLeaf)', 'if (false)'],
      ['days > WARNING_DAYS ? []', 'days > 0 ? []'],
    ],
    TLS,
  ),
  ...mutantsOf(
    'src/serve/security/secret-file.ts',
    [
      ['if (size > MOST_BYTES)', 'if (size > 2 * MOST_BYTES)'],
      ['const LOOSE_MODE = 0o026;', 'const LOOSE_MODE = 0o006;'],
      ['const LOOSE_MODE = 0o026;', 'const LOOSE_MODE = 0o066;'],
    ],
    TLS,
  ),
  ...mutantsOf(
    'src/serve/security/handshakes.ts',
    [['for (const socket of', 'for (const socket of [] as Socket[]) for (const _ of']],
    TLS,
  ),
  ...mutantsOf(
    'src/serve/recording/trace-context.ts',
    [
      ['(?!ff)', ''],
      ['(?!0{32})', ''],
      ['(?!0{16})', ''],
      ['traceparent.length !== LENGTH_OF_FIRST_VERSION', 'traceparent.length < LENGTH_OF_FIRST_VERSION'],
      ['traceparent.length > MOST_PARENT', 'traceparent.length > 10 * MOST_PARENT'],
      ['tracestate.length <= MOST_STATE', 'tracestate.length < 10 * MOST_STATE'],
    ],
    TRACE,
  ),
  ...mutantsOf(
    'src/client/retries.ts',
    [
      ['Math.min(MOST, this.#tokens + EARNED)', 'this.#tokens + EARNED'],
      ['const EARNED = 0.1;', 'const EARNED = 1;'],
      ['    this.#tokens -= 1;\n', ''],
      ['new Set([429, 502, 503])', 'new Set([429, 502, 503, 504])'],
      ["error.code === 'SHUTTING_DOWN' || ", ''],
      ['Math.min(LONGEST_MS, FIRST_MS * 2 ** tries)', 'FIRST_MS * 2 ** tries'],
    ],
    CLIENT,
  ),
  ...mutantsOf(
    'src/client/client.ts',
    [
      ['tries > this.#retries', 'tries > this.#retries + 1'],
      ['performance.now() + delayMs >= deadlineMs ||', ''],
      ["        redirect: 'error',\n", ''],
      ['Math.floor(1000 * leftMs)', 'Math.floor(leftMs)'],
      ['    if (signal?.aborted) giveUp();\n', ''],
    ],
    CLIENT,
  ),
  ...mutantsOf(
    'src/client/request.ts',
    [
      ['const INT32_MOST = 2 ** 31 - 1;', 'const INT32_MOST = 2 ** 53;'],
      ['weighted === 0 || weighted === bags.length', 'true'],
      ['parts.every(isOneTensor)', 'parts.some(isOneTensor)'],
      ['!Number.isSafeInteger(value)', '!Number.isInteger(value)'],
      ['BigInt.asIntN(64, id) !== id', 'false'],
    ],
    CLIENT_REQUEST,
  ),
  ...mutantsOf(
    'src/client/tensors.ts',
    [
      ['Math.ceil(head.length / ALIGNMENT) * ALIGNMENT', 'head.length'],
      ['  body.fill(0x20, head.length, jsonBytes);\n', ''],
      ['place + bytes > body.byteLength', 'false'],
      ['if (values.length !== elements)', 'if (false)'],
      ['if (elements !== data.length)', 'if (false)'],
    ],
    CLIENT_TENSORS,
  ),
];
