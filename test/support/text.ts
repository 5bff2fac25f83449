/** What no terminal may be sent, besides ends of lines. */
export const UNPRINTABLE = /[^\P{Cc}\n]|[\p{Cs}\p{Zl}\p{Zp}\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;
