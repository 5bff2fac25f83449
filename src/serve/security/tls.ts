/** Transport security: certificates and keys from files, checked before anything listens. */
import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
import { createSecureContext, type TlsOptions } from 'node:tls';
import { FormatError } from '../../errors.ts';
import { readSecretFile } from './secret-file.ts';

/** In PEM. */
export interface TlsFiles {
  /** The server's certificate, then those between it and the root. */
  readonly certificate: string;
  /** Its private key, not encrypted. */
  readonly key: string;
  /** Who signs clients' certificates, which are required then. */
  readonly clientAuthorities?: string;
}

/** What the files hold: text alone, for threads. */
export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
  /** Encrypt sessions that clients resume, on whichever thread; new with each reading, so that nothing outlives its certificates. */
  readonly ticketKeys: Uint8Array;
  /** When the first certificate of the server's chain expires, in ms since 1970. */
  readonly expiresMs: number;
}

const TICKET_KEY_BYTES = 48;
const DAY_MS = 86_400_000;
/** A certificate that is so near its end is worth a warning. */
const WARNING_DAYS = 14;

/** Options of a context: for `createServer` of node:https, `createSecureServer` of node:http2, and for `setSecureContext` later. */
export function tlsOptions({ cert, key, ca, ticketKeys }: TlsMaterial): TlsOptions {
  return {
    cert,
    key,
    minVersion: 'TLSv1.2',
    ticketKeys: Buffer.from(ticketKeys),
    ...(ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: true }),
  };
}

/**
 * @throws UsageError FILE_*; FormatError CERTIFICATE_INVALID: no PEM, a key of another certificate, an encrypted key, a certificate
 *   that has expired or is not valid yet.
 */
export async function readTls(
  files: TlsFiles,
  now: number = Date.now(),
): Promise<{ readonly material: TlsMaterial; readonly warnings: readonly string[] }> {
  const { certificate: certFile, key: keyFile, clientAuthorities: caFile } = files;
  const code = 'CERTIFICATE_INVALID';
  const [cert, key, ca] = await Promise.all([
    readSecretFile(certFile, code),
    readSecretFile(keyFile, code),
    caFile === undefined ? undefined : readSecretFile(caFile, code),
  ]);
  const chain = certificatesIn(certFile, cert.text);
  for (const one of chain) checkValidity(certFile, one, now);
  checkKey(files, chain[0], key.text);
  if (caFile !== undefined && ca !== undefined) certificatesIn(caFile, ca.text);
  const material: TlsMaterial = {
    cert: cert.text,
    key: key.text,
    ...(ca === undefined ? {} : { ca: ca.text }),
    ticketKeys: Uint8Array.from(randomBytes(TICKET_KEY_BYTES)),
    expiresMs: Math.min(...chain.map(({ validTo }) => Date.parse(validTo))),
  };
  try {
    createSecureContext(tlsOptions(material));
  } catch (cause) {
    throw invalid(certFile, `cannot be used: ${(cause as Error).message}`, cause);
  }
  const days = Math.floor((material.expiresMs - now) / DAY_MS);
  const warnings = [
    ...(key.warning === undefined ? [] : [key.warning]),
    ...(days > WARNING_DAYS ? [] : [`${certFile} expires in ${days} days`]),
  ];
  return { material, warnings };
}

type Chain = readonly [X509Certificate, ...X509Certificate[]];

/** @throws FormatError CERTIFICATE_INVALID. */
function certificatesIn(file: string, text: string): Chain {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  const [first, ...rest] = blocks.map((block) => {
    try {
      return new X509Certificate(block);
    } catch (cause) {
      throw invalid(file, 'holds a certificate that cannot be read', cause);
    }
  });
  if (first === undefined) throw invalid(file, 'holds no certificate in PEM');
  return [first, ...rest];
}

/** @throws FormatError CERTIFICATE_INVALID. */
function checkValidity(file: string, { validFrom, validTo, subject }: X509Certificate, now: number): void {
  const what = `holds a certificate of ${subject.replaceAll('\n', ', ')}, which`;
  if (Date.parse(validTo) <= now) throw invalid(file, `${what} expired on ${validTo}`);
  if (Date.parse(validFrom) > now) throw invalid(file, `${what} is not valid before ${validFrom}`);
}

/** @throws FormatError CERTIFICATE_INVALID. */
function checkKey({ certificate, key: file }: TlsFiles, leaf: X509Certificate, text: string): void {
  let isOfLeaf: boolean;
  try {
    isOfLeaf = leaf.checkPrivateKey(createPrivateKey(text));
  } catch (cause) {
    const isEncrypted = /ENCRYPTED/.test(text);
    throw invalid(file, isEncrypted ? 'is encrypted' : 'holds no private key in PEM', cause);
  }
  if (!isOfLeaf) throw invalid(file, `is not the key of the first certificate in ${certificate}`);
}

function invalid(file: string, what: string, cause?: unknown): FormatError {
  return new FormatError('CERTIFICATE_INVALID', `${file} ${what}`, { file, cause });
}
