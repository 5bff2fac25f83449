/** What deploy/ says of the server is so: its options, paths, ports and times; and each part names what another has. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { serveCommand } from '../../src/cli/commands/serve.ts';
import { METRICS } from '../../src/serve/metrics/metric-list.ts';
import { routeOf } from '../../src/serve/protocol/route.ts';
import { needOf } from '../../src/serve/security/guard.ts';
import { authority, signed } from '../support/certificates.ts';
import { parseYaml, type Yaml } from '../support/yaml.ts';

const FOLDER = new URL('../../deploy/', import.meta.url);
const textOf = (name: string) => readFileSync(new URL(name, FOLDER), 'utf8');

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string | number; readonly scheme?: string };
}

interface Secured {
  readonly runAsNonRoot?: boolean;
  readonly readOnlyRootFilesystem?: boolean;
  readonly allowPrivilegeEscalation?: boolean;
  readonly capabilities?: object;
}

interface Container {
  readonly name: string;
  readonly image: string;
  readonly args: readonly string[];
  readonly env?: readonly { readonly value: string }[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly startupProbe: Probe;
  readonly readinessProbe: Probe;
  readonly livenessProbe: Probe;
  readonly lifecycle?: { readonly preStop: { readonly exec: { readonly command: readonly string[] } } };
  readonly resources: Readonly<Record<'requests' | 'limits', Readonly<Record<string, string | number>>>>;
  readonly securityContext: Secured;
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
}

interface Pod {
  readonly containers: readonly [Container];
  readonly volumes: readonly { readonly name: string }[];
  readonly securityContext?: Secured;
  readonly terminationGracePeriodSeconds?: number;
}

type Labels = Readonly<Record<string, string>>;

interface Kind<Spec> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: Spec;
}

const [deployment, service] = parseYaml(textOf('kubernetes.yaml')) as unknown as [
  Kind<{
    readonly selector: { readonly matchLabels: Labels };
    readonly template: { readonly metadata: { readonly labels: Labels }; readonly spec: Pod };
    readonly strategy: { readonly rollingUpdate: { readonly maxUnavailable: number } };
  }>,
  Kind<{ readonly selector: Labels; readonly ports: readonly { readonly targetPort: string }[] }>,
];
const [runtime, inference] = parseYaml(textOf('kserve.yaml')) as unknown as [
  Kind<
    Pod & {
      readonly supportedModelFormats: readonly { readonly name: string }[];
      readonly protocolVersions: readonly string[];
    }
  >,
  Kind<{
    readonly predictor: {
      readonly model: {
        readonly runtime: string;
        readonly modelFormat: { readonly name: string };
        readonly protocolVersion: string;
      };
    };
  }>,
];
const pods: [string, Pod][] = [
  ['kubernetes', deployment.spec.template.spec],
  ['kserve', runtime.spec],
];
const unit = textOf('hotrow.service');

/** By how much a server outlasts --drain, in s: its threads end. */
const STOP_SECONDS = 10;
const defaults: Options = serveCommand().opts();
const ENTRYPOINT = JSON.parse(/^ENTRYPOINT (.*)$/m.exec(textOf('Dockerfile'))?.[1] ?? '[]') as string[];

interface Options {
  readonly host: string;
  readonly port: number;
  readonly grpcPort?: number;
  readonly drain: number;
  readonly insecure?: true;
  readonly models?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tokenFile?: string;
}

/** What these arguments say, all of which the command knows. */
function areKnown(args: readonly string[]): Options {
  const command = serveCommand()
    .exitOverride()
    .action(() => {});
  command.configureOutput({ writeErr: () => {} });
  command.parse(args, { from: 'user' });
  return command.opts();
}

test('no file is left out here', () => {
  const files = [
    'alerts.yaml',
    'Dockerfile',
    'Dockerfile.dockerignore',
    'container-health.js',
    'hotrow.service',
    'kserve.yaml',
    'kubernetes.yaml',
  ];
  assert.deepEqual(readdirSync(FOLDER).sort(), files.sort());
});

describe('pods', () => {
  for (const [name, { containers, volumes, ...pod }] of pods)
    test(name, () => {
      const [{ args, ports, securityContext, resources, volumeMounts, image, ...container }] = containers;
      const options = areKnown([...ENTRYPOINT.slice(2), ...args]);
      assert.match(image, /^hotrow:\d+\.\d+\.\d+$/, 'no registry');
      const listensOn = ports.map(({ containerPort }) => containerPort);
      assert.ok(listensOn.includes(options.port));
      if (options.grpcPort !== undefined) assert.ok(listensOn.includes(options.grpcPort));
      assert.equal(options.host, '0.0.0.0');
      assert.ok(options.insecure === true || options.tlsCert !== undefined);
      for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe'] as const) {
        const { path, port, scheme = 'HTTP' } = container[probe].httpGet;
        const routed = routeOf('GET', path);
        assert.ok('route' in routed);
        assert.equal(needOf(routed.route), 'nothing', `${path} needs no token`);
        assert.equal(routed.route.kind, probe === 'livenessProbe' ? 'live' : 'ready');
        assert.ok(
          port === options.port ||
            ports.some((own) => own.name === port && own.containerPort === options.port),
        );
        assert.equal(scheme, options.tlsCert === undefined ? 'HTTP' : 'HTTPS');
      }
      const mounted = volumeMounts.map((mount) => mount.name).sort();
      assert.deepEqual(volumes.map((volume) => volume.name).sort(), mounted);
      for (const file of [options.tlsCert, options.tlsKey, options.tokenFile, options.models].filter(
        (file) => file !== undefined,
      ))
        assert.ok(
          volumeMounts.some(({ mountPath }) => file === mountPath || file.startsWith(`${mountPath}/`)),
          file,
        );
      for (const folder of ['/tmp', '/var/cache/hotrow', '/var/lib/hotrow'])
        assert.ok(
          volumeMounts.some(({ mountPath }) => mountPath === folder),
          `${folder} can be written`,
        );
      assert.equal(securityContext.readOnlyRootFilesystem, true);
      assert.equal(securityContext.allowPrivilegeEscalation, false);
      assert.deepEqual(securityContext.capabilities, { drop: ['ALL'] });
      assert.equal(securityContext.runAsNonRoot ?? pod.securityContext?.runAsNonRoot, true);
      assert.equal(Number(resources.limits['nvidia.com/gpu']), 1);
      assert.equal(resources.limits.memory, resources.requests.memory);
      const grace = pod.terminationGracePeriodSeconds;
      if (grace !== undefined) {
        const [, seconds] = container.lifecycle?.preStop.exec.command ?? [];
        assert.ok(grace > Number(seconds) + defaults.drain + STOP_SECONDS);
      }
    });
});

test('the Deployment and its Service belong together', () => {
  const { selector, template, strategy } = deployment.spec;
  const { labels } = template.metadata;
  assert.deepEqual(
    [deployment.apiVersion, deployment.kind, service.apiVersion, service.kind],
    ['apps/v1', 'Deployment', 'v1', 'Service'],
  );
  for (const [name, value] of Object.entries({ ...selector.matchLabels, ...service.spec.selector }))
    assert.equal(labels[name], value);
  const named = new Set(template.spec.containers[0].ports.map(({ name }) => name));
  for (const { targetPort } of service.spec.ports) assert.ok(named.has(targetPort), targetPort);
  assert.equal(strategy.rollingUpdate.maxUnavailable, 0);
});

test('the runtime and its InferenceService belong together', () => {
  assert.deepEqual(
    [runtime.apiVersion, inference.apiVersion],
    ['serving.kserve.io/v1alpha1', 'serving.kserve.io/v1beta1'],
  );
  const { model } = inference.spec.predictor;
  assert.equal(model.runtime, runtime.metadata.name);
  assert.ok(runtime.spec.supportedModelFormats.some(({ name }) => name === model.modelFormat.name));
  assert.ok(runtime.spec.protocolVersions.includes(model.protocolVersion));
  const [{ name, args, env }] = runtime.spec.containers;
  assert.equal(name, 'kserve-container');
  assert.ok(args.includes('{{.Name}}=/mnt/models'));
  assert.equal(Number(env?.[0]?.value), areKnown([...ENTRYPOINT.slice(2), ...args]).port);
});

test('alerts are about metrics that there are', () => {
  const metrics = new Set<string>(Object.values(METRICS).map(({ name }) => name));
  const asked = [...textOf('alerts.yaml').matchAll(/\bhotrow_\w+/g)].map(([name]) =>
    name.replace(/_bucket$/, ''),
  );
  assert.ok(asked.length > 5);
  for (const name of asked) assert.ok(metrics.has(name), name);
});

test('the unit of systemd', () => {
  const settingOf = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1] ?? '';
  const [program, verb, ...args] = settingOf('ExecStart').split(' ');
  assert.deepEqual([program, verb, args.pop()], ['/usr/local/bin/hotrow', 'serve', '$HOTROW_OPTIONS']);
  areKnown(args);
  assert.equal(settingOf('ExecReload'), '/bin/kill -HUP $MAINPID');
  assert.ok(Number(settingOf('TimeoutStopSec')) > defaults.drain + STOP_SECONDS);
  assert.deepEqual(
    ['Restart', 'DynamicUser', 'ProtectSystem', 'NoNewPrivileges', 'CapabilityBoundingSet'].map(settingOf),
    ['on-failure', 'yes', 'strict', 'yes', ''],
  );
  // A GPU's driver and V8 need both.
  assert.doesNotMatch(unit, /^(PrivateDevices|MemoryDenyWriteExecute)=/m);
});

test('the image', () => {
  const text = textOf('Dockerfile');
  for (const [, image] of text.matchAll(/^FROM (\S+)/gm)) assert.match(image ?? '', /^node:/);
  assert.deepEqual(ENTRYPOINT.slice(0, 2), ['hotrow', 'serve']);
  areKnown(ENTRYPOINT.slice(2));
  const stages = text.split(/^FROM /m);
  assert.match(stages.at(-1) ?? '', /^USER [1-9]\d*:[1-9]\d*$/m);
  const [, health = ''] = /^HEALTHCHECK .*CMD \["node", "(.*)"\]$/m.exec(text) ?? [];
  assert.equal(health, '/usr/local/lib/node_modules/hotrow/deploy/container-health.js');
  const { files } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  assert.ok(files.includes('deploy'), 'the package has it');
});

describe('the health of a container', () => {
  const script = fileURLToPath(new URL('container-health.js', FOLDER));

  /** What the check exits with, of a server that answers so. */
  async function check(server: Server): Promise<number> {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const child = spawn(process.execPath, [script], { env: { ...process.env, PORT: String(port) } });
    const [code] = await once(child, 'close');
    server.closeAllConnections();
    server.close();
    return code;
  }

  test('follows what the server says, with TLS and without', async () => {
    const { cert, key } = signed(authority());
    const answer = (status: number) => (request: IncomingMessage, response: ServerResponse) =>
      response.writeHead(request.url === '/v2/health/live' ? status : 500).end();
    const codes = await Promise.all([
      check(createServer(answer(200))),
      check(createServer(answer(503))),
      check(createSecureServer({ cert, key }, answer(200)) as unknown as Server),
      check(createSecureServer({ cert, key }, answer(503)) as unknown as Server),
    ]);
    assert.deepEqual(codes, [0, 1, 0, 1]);
  });
});

test('the YAML of these files is read as it is meant', () => {
  const value: Yaml[] = parseYaml('a: 1\nb:\n  - c: "1"\n    d: [x, y]\n  - e\n---\n# none\nf: {}\n');
  assert.deepEqual(value, [{ a: 1, b: [{ c: '1', d: ['x', 'y'] }, 'e'] }, { f: {} }]);
  for (const wrong of ['a: &x 1', 'a: b: c', "a: 'x'", 'a:', 'a: 1\na: 2', 'a:\n    b: 1\n  c: 2', '\ta: 1'])
    assert.throws(() => parseYaml(wrong), SyntaxError, wrong);
});
