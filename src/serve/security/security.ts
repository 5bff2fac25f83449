/** What keeps a server: read from files once, in the main thread, and again when they have changed. */
import { UsageError } from '../../errors.ts';
import type { AccessRules } from './guard.ts';
import { readTls, type TlsFiles, type TlsMaterial } from './tls.ts';
import { readTokens } from './tokens.ts';

export interface SecurityFiles {
  readonly tls?: TlsFiles;
  /** Files of tokens. */
  readonly tokens?: string;
  readonly adminTokens?: string;
  /** Whether there is administration without tokens of its own. */
  readonly isAdministered?: boolean;
  /** Origins whose pages may ask. */
  readonly origins: readonly string[];
}

/** For threads: nothing but data. */
export interface Security {
  /** Undefined: connections are not encrypted. */
  readonly tls?: TlsMaterial;
  readonly access: AccessRules;
}

/** @throws UsageError FILE_*; USAGE for what is no origin; FormatError CERTIFICATE_INVALID, TOKENS_INVALID. */
export async function readSecurity(
  files: SecurityFiles,
): Promise<{ readonly security: Security; readonly warnings: readonly string[] }> {
  const { origins } = files;
  for (const origin of origins) checkOrigin(origin);
  const [tls, tokens, adminTokens] = await Promise.all([
    files.tls === undefined ? undefined : readTls(files.tls),
    files.tokens === undefined ? undefined : readTokens(files.tokens),
    files.adminTokens === undefined ? undefined : readTokens(files.adminTokens),
  ]);
  return {
    security: {
      ...(tls === undefined ? {} : { tls: tls.material }),
      access: {
        origins,
        isAdministered: files.isAdministered ?? false,
        ...(tokens === undefined ? {} : { tokens: tokens.digests }),
        ...(adminTokens === undefined ? {} : { adminTokens: adminTokens.digests }),
      },
    },
    warnings: [tls, tokens, adminTokens].flatMap((read) => read?.warnings ?? []),
  };
}

/** @throws UsageError USAGE. */
function checkOrigin(origin: string): void {
  const url = URL.canParse(origin) ? new URL(origin) : undefined;
  if (url !== undefined && /^https?:$/.test(url.protocol) && url.origin === origin) return;
  throw new UsageError('USAGE', `--cors-origin ${origin} is no origin`, {
    hint: 'an origin has a scheme, a host and perhaps a port: https://shop.example; name each, there is no *',
  });
}
