/** The machine's own addresses, which nobody else reaches. */

/** `host`: a name or an address, without a port. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(?:\.\d{1,3}){3}$/.test(host);
}

/** `authority`: as requests name a server, perhaps with a port: `[::1]:8000`. */
export function isOfLoopback(authority: string): boolean {
  return isLoopback(
    authority
      .replace(/:\d*$/, '')
      .replace(/^\[(.*)\]$/, '$1')
      .toLowerCase(),
  );
}
