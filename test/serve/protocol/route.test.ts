import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Router, routeOf } from '../../../src/serve/protocol/route.ts';
import fc from '../../support/properties.ts';

const route = (method: string, path: string) => {
  const routed = routeOf(method, path);
  assert.ok('route' in routed, `${method} ${path}: ${'error' in routed && routed.error.message}`);
  return routed.route;
};

test('paths', () => {
  const cases: [string, string, object][] = [
    ['GET', '/v2', { kind: 'server-metadata' }],
    ['GET', '/v2/', { kind: 'server-metadata' }],
    ['GET', '/v2/health/live', { kind: 'live' }],
    ['HEAD', '/v2/health/ready', { kind: 'ready' }],
    ['GET', '/v2/models/m', { kind: 'model-metadata', model: 'm' }],
    ['GET', '/v2/models/m/versions/1', { kind: 'model-metadata', model: 'm', version: '1' }],
    ['GET', '/v2/models/m/ready', { kind: 'model-ready', model: 'm' }],
    ['GET', '/v2/models/m/versions/1/ready', { kind: 'model-ready', model: 'm', version: '1' }],
    ['POST', '/v2/models/m/infer', { kind: 'infer', model: 'm' }],
    ['POST', '/v2/models/m/versions/1/infer', { kind: 'infer', model: 'm', version: '1' }],
    ['GET', '/v2/models/m/stats', { kind: 'statistics', model: 'm' }],
    ['GET', '/v2/models/m/versions/1/stats', { kind: 'statistics', model: 'm', version: '1' }],
    ['GET', '/v2/models/stats', { kind: 'statistics' }],
    ['GET', '/v2/models/stats/versions/1', { kind: 'model-metadata', model: 'stats', version: '1' }],
    ['POST', '/v2/models/stats/infer', { kind: 'infer', model: 'stats' }],
    ['GET', '/v2/models/infer', { kind: 'model-metadata', model: 'infer' }],
    ['POST', '/v2/repository/index', { kind: 'repository-index' }],
    ['POST', '/v2/repository/models/m/load', { kind: 'load', model: 'm' }],
    ['POST', '/v2/repository/models/a%2F..%2Fb/unload', { kind: 'unload', model: 'a/../b' }],
    ['POST', '/v2/repository/models/m/patches', { kind: 'patch', model: 'm' }],
    ['GET', '/metrics', { kind: 'metrics' }],
    ['GET', '/', { kind: 'page' }],
    ['HEAD', '/?x=1', { kind: 'page' }],
    ['GET', '/v2/events', { kind: 'events' }],
    ['POST', '/v2/models/a%20b%2Fc/infer', { kind: 'infer', model: 'a b/c' }],
    ['POST', '/v2/models/__proto__/infer', { kind: 'infer', model: '__proto__' }],
  ];
  for (const [method, path, expected] of cases) assert.deepEqual(route(method, path), expected, path);
});

test('the query', () => {
  const query = (target: string) => {
    const routed = routeOf('POST', target);
    return 'route' in routed ? routed.query : undefined;
  };
  assert.equal(query('/v2/models/m/infer'), '');
  assert.equal(query('/v2/models/m/infer?'), '');
  assert.equal(query('/v2/models/m/infer?timeout=5&id=a?b'), 'timeout=5&id=a?b');
});

test('what is not there', () => {
  const paths = [
    '',
    '*',
    'v2',
    '/v1',
    '/v3/models/m',
    '/v2/x',
    '/v2//',
    '/v2/events/',
    '/v2/events/x',
    '/v2/health',
    '/v2/health/',
    '/v2/health/live/',
    '/v2/health/other',
    '/v2/models',
    '/v2/models/',
    '/v2/models//infer',
    '/v2/models/m/',
    '/v2/models/m/other',
    '/v2/models/m/infer/',
    '/v2/models/m/infer/x',
    '/v2/models/m/versions',
    '/v2/models/m/versions/',
    '/v2/models/m/versions//infer',
    '/v2/models/m/versions/1/x',
    '/v2/models/m/versions/1/infer/x',
    '/v2/models/stats/x',
    '/v2/repository',
    '/v2/repository/index/x',
    '/v2/repository/models',
    '/v2/repository/models/m',
    '/v2/repository/models//load',
    '/v2/repository/models/m/load/x',
    '/v2/repository/models/m/other',
    '/metrics/',
    '/metrics/x',
    '/V2',
    `/${'x'.repeat(5000)}`,
  ];
  for (const path of paths) {
    const routed = routeOf('POST', path);
    assert.ok('error' in routed, path);
    assert.equal(routed.error.code, 'ROUTE_UNKNOWN', path);
    assert.ok(routed.error.message.length < 200);
  }
});

test('methods that a path has not, and paths that are no text', () => {
  const refused = (method: string, path: string) => {
    const routed = routeOf(method, path);
    assert.ok('error' in routed);
    return [routed.error.code, routed.allow];
  };
  assert.deepEqual(refused('GET', '/v2/models/m/infer'), ['METHOD_NOT_ALLOWED', 'POST']);
  assert.deepEqual(refused('POST', '/v2/models/m'), ['METHOD_NOT_ALLOWED', 'GET, HEAD']);
  assert.deepEqual(refused('DELETE', '/v2/health/live'), ['METHOD_NOT_ALLOWED', 'GET, HEAD']);
  assert.deepEqual(refused('POST', '/'), ['METHOD_NOT_ALLOWED', 'GET, HEAD']);
  assert.deepEqual(refused('HEAD', '/v2/events'), ['METHOD_NOT_ALLOWED', 'GET']);
  assert.deepEqual(refused('GET', '/v2/repository/index'), ['METHOD_NOT_ALLOWED', 'POST']);
  assert.deepEqual(refused('x'.repeat(5000), '/metrics'), ['METHOD_NOT_ALLOWED', 'GET, HEAD']);
  for (const path of ['/v2/models/%/infer', '/v2/models/%zz/infer', '/v2/models/%ff/infer'])
    assert.deepEqual(refused('POST', path), ['REQUEST_INVALID', undefined]);
});

test('any name of a model comes back as it was', () => {
  const name = fc.string({ minLength: 1, unit: fc.constantFrom(...'aB7/%?#+. &=;"é', '𝄞', '..') });
  fc.assert(
    fc.property(name, name, (model, version) => {
      const path = `/v2/models/${encodeURIComponent(model)}/versions/${encodeURIComponent(version)}/infer?x=1`;
      assert.deepEqual(route('POST', path), { kind: 'infer', model, version });
    }),
  );
});

test('a router says of each request what it asks for, whatever came before it', () => {
  const router = new Router();
  const lines: [string, string][] = [
    ['POST', '/v2/models/m/infer?a=1'],
    ['POST', '/v2/models/m/infer?a=1'],
    ['GET', '/v2/models/m/infer?a=1'],
    ['POST', '/v2/models/m/infer?a=2'],
    ['POST', '/v2/models/n/infer?a=2'],
  ];
  for (const [method, target] of lines) {
    const [routed, expected] = [router.routeOf(method, target), routeOf(method, target)];
    assert.deepEqual('route' in routed ? routed : undefined, 'route' in expected ? expected : undefined);
  }
  const refused = () => {
    const routed = router.routeOf('GET', '/nothing');
    return 'error' in routed ? routed.error : undefined;
  };
  assert.ok(refused() instanceof Error);
  assert.notEqual(refused(), refused());
});
