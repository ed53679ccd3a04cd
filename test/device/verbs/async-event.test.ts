import { execFileSync } from 'node:child_process';
import { afterEach, describe, expect, it } from 'vitest';
import { type AsyncEvent, type Device, openDevice } from '../../../lib/index.ts';
import { devices } from '../helpers/devices.ts';

/** Takes the cable of a device away and puts it back (tools/softrdma/guest/link.sh). */
function link(device: string, state: 'down' | 'up'): void {
  execFileSync('softrdma-link', [device, state], { stdio: 'inherit' });
}

/** The first event of [type] on [device]. */
function eventOf<T extends AsyncEvent['type']>(device: Device, type: T): Promise<AsyncEvent> {
  return new Promise((resolve) => {
    device.once(type, resolve as (event: AsyncEvent) => void);
  });
}

describe.each(devices)('asynchronous events of $name', ({ name }) => {
  afterEach(() => link(name, 'up'));

  it('tells every opening of the device that its port went down and came up', async () => {
    using first = openDevice(name);
    using second = openDevice(name);
    const seen: AsyncEvent[] = [];
    first.on('event', (event) => {
      seen.push(event);
    });
    const down = Promise.all([eventOf(first, 'PORT_ERR'), eventOf(second, 'PORT_ERR')]);
    const up = Promise.all([eventOf(first, 'PORT_ACTIVE'), eventOf(second, 'PORT_ACTIVE')]);
    link(name, 'down');
    expect(await down).toEqual([
      { type: 'PORT_ERR', device: first, port: 1 },
      { type: 'PORT_ERR', device: second, port: 1 },
    ]);
    expect(first.queryPort().state).toBe('DOWN');
    link(name, 'up');
    expect(await up).toEqual([
      { type: 'PORT_ACTIVE', device: first, port: 1 },
      { type: 'PORT_ACTIVE', device: second, port: 1 },
    ]);
    expect(first.queryPort().state).toBe('ACTIVE');
    expect(seen.map(({ type }) => type).filter((type) => type.startsWith('PORT_'))).toEqual([
      'PORT_ERR',
      'PORT_ACTIVE',
    ]);
  });

  it('is silent after close and after off', async () => {
    using open = openDevice(name);
    const closed = openDevice(name);
    const fail = () => {
      throw new Error('a listener that should be deaf');
    };
    closed.on('event', fail);
    open.on('PORT_ERR', fail).off('PORT_ERR', fail);
    const down = eventOf(open, 'PORT_ERR');
    closed.close();
    link(name, 'down');
    await down;
  });
});
