// Stops with a clear message on a Node that is too old. Written so that old versions can still read it.
export function requireNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  console.error(`error: Hotrow needs Node 20.19 or newer, this is ${process.versions.node}`);
  console.error("hint: install a current Node, e.g. `nvm install 22`, or your distribution's nodejs package");
  process.exit(1);
}
