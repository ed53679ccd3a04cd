/** Address handles. */
import { expect } from 'vitest';
import { rdmaErrorOf } from '../../device/helpers/rejection.ts';
import { type Env, implement, refused } from '../harness.ts';

/** The GID table entry of the device's IPv4 address: both ends of what is sent to oneself. */
export function route({ device, host }: Env) {
  const entry = device.queryGidTable(1).find(({ text }) => text === `::ffff:${host}`);
  expect(entry, `a GID for ${host}`).toBeDefined();
  return { dgid: entry!.gid, sgidIndex: entry!.index };
}

/** On iWARP there are no datagrams, and no address handles. */
const noHandles = ({ pd }: Env) => refused(() => pd.createAh({ grh: { dgid: '::ffff:10.0.2.1' } }));

implement('test_addr', 'AHTest', {
  async test_create_ah(env) {
    if (env.device.transport === 'iwarp') return noHandles(env);
    const grh = route(env);
    using handle = env.pd.createAh({ grh });
    expect(handle.attr.grh).toMatchObject({ dgid: `::ffff:${env.host}`, sgidIndex: grh.sgidIndex });
    return undefined;
  },

  async test_create_ah_roce(env) {
    if (env.device.transport === 'iwarp') return noHandles(env);
    const error = await rdmaErrorOf(() => env.pd.createAh({}));
    expect(error.message).toMatch(/grh/);
    return undefined;
  },

  async test_destroy_ah(env) {
    if (env.device.transport === 'iwarp') return noHandles(env);
    const handle = env.pd.createAh({ grh: route(env) });
    handle.close();
    handle.close();
    expect(handle.closed).toBe(true);
    return undefined;
  },
});
