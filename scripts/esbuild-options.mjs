// What esbuild makes of our sources: ES modules for the oldest Node that Hotrow runs on.
export const FOR_NODE = { bundle: true, format: 'esm', platform: 'node', target: 'node20' };
