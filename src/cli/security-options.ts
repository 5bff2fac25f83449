/** The options of `hotrow serve` that say who may reach the server, and who may ask it for what. */
import { isIPv6 } from 'node:net';
import type { Command } from 'commander';
import { UsageError } from '../errors.ts';
import { isLoopback } from '../serve/security/loopback.ts';
import { readSecurity, type Security, type SecurityFiles } from '../serve/security/security.ts';
import type { ServerEvent } from '../serve/server.ts';

export interface SecurityOptions {
  readonly host: string;
  readonly insecure?: true;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
  readonly tokenFile?: string;
  readonly adminTokenFile?: string;
  readonly admin?: true;
  readonly corsOrigin?: readonly string[];
}

export function withSecurity(command: Command): Command {
  return command
    .option('--host <address>', 'the address to listen on', unbracketed, '127.0.0.1')
    .option('--insecure', 'listen on an address that others reach, without TLS')
    .option('--tls-cert <file>', "TLS: the server's certificate and those above it, in PEM")
    .option('--tls-key <file>', 'TLS: its private key, in PEM')
    .option('--tls-ca <file>', 'TLS: clients need a certificate that one of these signed')
    .option('--token-file <file>', 'clients need one of these bearer tokens, a line each')
    .option('--admin-token-file <file>', 'lets who has one of these tokens load, unload and patch models')
    .option('--admin', 'the same without tokens of its own, on addresses of this machine')
    .option(
      '--cors-origin <origin>',
      'pages of this origin may ask; may be repeated',
      (origin: string, all: readonly string[] = []) => [...all, origin],
    );
}

/** An address of IPv6 as URLs have it, [::1], is the address. */
function unbracketed(host: string): string {
  const [, address = ''] = /^\[(.*)\]$/.exec(host) ?? [];
  return isIPv6(address) ? address : host;
}

/**
 * What the options say, from their files. `tell` hears what is worth a warning.
 * @throws UsageError USAGE, FILE_*; FormatError CERTIFICATE_INVALID, TOKENS_INVALID.
 */
export async function readServeSecurity(
  options: SecurityOptions,
  tell: (event: ServerEvent) => void,
): Promise<Security> {
  const files = filesOf(options);
  const { host, insecure } = options;
  if (!isLoopback(host) && files.tls === undefined && insecure !== true)
    throw new UsageError('USAGE', `--host ${host}: others reach that address, and the server has no TLS`, {
      hint: 'give --tls-cert and --tls-key, listen on 127.0.0.1 behind a proxy, or add --insecure',
    });
  if (!isLoopback(host) && options.admin === true && options.adminTokenFile === undefined)
    throw new UsageError('USAGE', `--admin: others reach ${host}, and administration has no tokens`, {
      hint: 'give --admin-token-file instead',
    });
  const { security, warnings } = await readSecurity(files);
  const all = isLoopback(host) ? warnings : [...warnings, ...exposures(options)];
  for (const message of all) tell({ kind: 'warning', message });
  return security;
}

/** What is open to those who reach the server. */
function exposures({ host, tlsCert, tlsCa, tokenFile }: SecurityOptions): string[] {
  if (tokenFile === undefined && tlsCa === undefined)
    return [`whoever reaches ${host} may ask: there is neither --token-file nor --tls-ca`];
  return tlsCert === undefined ? [`tokens go to ${host} unencrypted: there is no TLS`] : [];
}

/** @throws UsageError USAGE. */
function filesOf(options: SecurityOptions): SecurityFiles {
  const { tlsCert, tlsKey, tlsCa, tokenFile, adminTokenFile, corsOrigin = [] } = options;
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw new UsageError('USAGE', '--tls-cert and --tls-key go together');
  if (tlsCa !== undefined && tlsCert === undefined)
    throw new UsageError('USAGE', '--tls-ca needs --tls-cert and --tls-key');
  return {
    origins: corsOrigin,
    isAdministered: options.admin === true,
    ...(tlsCert === undefined || tlsKey === undefined
      ? {}
      : {
          tls: {
            certificate: tlsCert,
            key: tlsKey,
            ...(tlsCa === undefined ? {} : { clientAuthorities: tlsCa }),
          },
        }),
    ...(tokenFile === undefined ? {} : { tokens: tokenFile }),
    ...(adminTokenFile === undefined ? {} : { adminTokens: adminTokenFile }),
  };
}
