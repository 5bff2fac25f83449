/** Limits of connections, by a clock of the test's. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { test } from 'node:test';
import { MOST_STREAMS, Sessions, type TimedCall } from '../../../src/serve/grpc/sessions.ts';

const LIMITS = { headersMs: 10, requestMs: 60, idleMs: 120 };

class FakeSession extends EventEmitter {
  readonly did: string[] = [];
  closed = false;
  destroyed = false;
  goaway(code: number, last: number): void {
    this.did.push(`goaway ${code} ${last}`);
  }
  close(): void {
    this.closed = true;
    this.did.push('close');
  }
  destroy(): void {
    this.destroyed = true;
    this.did.push('destroy');
    this.emit('close');
  }
}

class FakeStream extends EventEmitter {
  rstCode: number = constants.NGHTTP2_NO_ERROR;
  aborted = false;
  destroyed = false;
  end(reset = 0): void {
    this.rstCode = reset;
    this.destroyed = true;
    this.emit('close');
  }
}

function open() {
  let now = 0;
  const ended: unknown[] = [];
  const sessions = new Sessions(
    LIMITS,
    (streams) => ended.push(...streams),
    () => now,
  );
  const session = new FakeSession();
  const own = session as unknown as ServerHttp2Session;
  sessions.opened(own);
  return {
    sessions,
    session,
    ended,
    pass(ms: number) {
      now += ms;
      sessions.look();
    },
    ask(stream = new FakeStream(), more: Partial<TimedCall> = {}) {
      const late: number[] = [];
      const call: TimedCall = {
        stream: stream as unknown as ServerHttp2Stream,
        waitingSince: now,
        endsUnread: false,
        isEndless: false,
        late: () => late.push(now),
        ...more,
      };
      sessions.asked(own, call);
      return { stream, call, late };
    },
  };
}

test('a connection that says nothing is ended, one without calls is closed', () => {
  const silent = open();
  silent.pass(9);
  assert.deepEqual(silent.session.did, []);
  silent.pass(1);
  assert.deepEqual(silent.session.did, ['destroy']);

  const idle = open();
  idle.session.emit('remoteSettings');
  idle.pass(100);
  const { stream, call } = idle.ask();
  call.waitingSince = undefined;
  idle.pass(1000);
  stream.end();
  idle.pass(119);
  assert.deepEqual(idle.session.did, []);
  idle.pass(1);
  assert.deepEqual(idle.session.did, ['close']);
});

test('a call is late when it is waited for too long, not when the server has it', () => {
  const own = open();
  own.session.emit('remoteSettings');
  const { call, late } = own.ask();
  own.pass(59);
  assert.deepEqual(late, []);
  own.pass(1);
  assert.deepEqual(late, [60]);
  call.waitingSince = undefined;
  own.pass(1000);
  assert.deepEqual(late, [60]);
});

test('a connection is replaced while all of its open calls may still be reset', () => {
  const own = open();
  own.session.emit('remoteSettings');
  const watch = own.ask(new FakeStream(), { isEndless: true, waitingSince: undefined });
  const cancel = (count: number) => {
    for (let i = 0; i < count; i++) own.ask().stream.end(constants.NGHTTP2_CANCEL);
  };
  const most = 1000 - MOST_STREAMS - 1;
  cancel(most);
  for (let i = 0; i < 100; i++) own.ask().stream.end();
  assert.deepEqual(own.session.did, []);
  cancel(1);
  assert.deepEqual(own.session.did, ['goaway 0 2147483647']);
  assert.deepEqual(own.ended, [watch.stream]);
  cancel(10);
  own.pass(999);
  assert.deepEqual(own.session.did, ['goaway 0 2147483647'], 'it is told once');
  own.pass(1);
  assert.deepEqual(own.session.did.slice(1), ['close']);
});

test('resets are forgiven, 33 a second; all kinds count', () => {
  const own = open();
  own.session.emit('remoteSettings');
  own.ask(new FakeStream(), { waitingSince: undefined });
  for (let second = 0; second < 100; second++) {
    for (let i = 0; i < 33; i++) own.ask().stream.end(constants.NGHTTP2_CANCEL);
    own.pass(1000);
  }
  assert.deepEqual(own.session.did, []);
  const gone = new FakeStream();
  gone.destroyed = true;
  for (let i = 0; i < 1000; i++) {
    if (i % 3 === 0) own.ask(gone);
    else if (i % 3 === 1) own.ask(new FakeStream(), { endsUnread: true }).stream.end();
    else {
      const { stream } = own.ask();
      stream.aborted = true;
      stream.end();
    }
  }
  assert.deepEqual(own.session.did, ['goaway 0 2147483647']);
});

test('all are told to leave, or are closed', () => {
  const own = open();
  const endless = own.ask(new FakeStream(), { isEndless: true });
  own.sessions.leave();
  own.sessions.close();
  own.sessions.close();
  assert.deepEqual(own.session.did, ['goaway 0 2147483647', 'close']);
  assert.ok(own.ended.includes(endless.stream));
});
