#!/usr/bin/env node
/** The command, with the options of ibv_rc_pingpong(1) and its siblings. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { listDevices } from '../../lib/index.ts';
import type { PingpongType } from './endpoint.ts';
import { pingpong } from './pingpong.ts';

interface Options {
  port: number;
  ibDev?: string;
  ibPort: number;
  size?: number;
  mtu: number;
  rxDepth: number;
  iters: number;
  sl: number;
  gidIdx?: number;
  numQp: number;
  chk?: boolean;
}

/** Bytes of a message, as the C programs have it. */
const SIZES: Record<PingpongType, number> = { rc: 4096, uc: 4096, ud: 1024, srq: 4096 };

function parseWhole(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Give a whole number.');
  return Number(text);
}

async function run(type: PingpongType, host: string | undefined, options: Options): Promise<void> {
  const device = options.ibDev ?? listDevices()[0]?.name;
  if (device === undefined) throw new Error('there are no RDMA devices; try `npm run softrdma -- …`');
  const { iterations, seconds, bytes } = await pingpong({
    type,
    host,
    device,
    port: options.port,
    ibPort: options.ibPort,
    gidIndex: options.gidIdx,
    size: options.size ?? SIZES[type],
    mtu: options.mtu,
    rxDepth: options.rxDepth,
    iterations: options.iters,
    sl: options.sl,
    queuePairs: type === 'srq' ? options.numQp : 1,
    validate: options.chk === true,
    onListening: () => console.log(`listening on port ${options.port}`),
  });
  const rate = (bytes * 8) / seconds / 1e6;
  console.log(`${bytes} bytes in ${seconds.toFixed(2)} seconds = ${rate.toFixed(2)} Mbit/sec`);
  console.log(
    `${iterations} iters in ${seconds.toFixed(2)} seconds = ${((seconds * 1e6) / iterations).toFixed(2)} usec/iter`,
  );
}

const command = new Command('pingpong').description(
  'ping-pong over queue pairs made by hand: works with ibv_rc_pingpong, ibv_uc_pingpong, ibv_ud_pingpong and ibv_srq_pingpong',
);
for (const type of Object.keys(SIZES) as PingpongType[]) {
  const sub = command
    .command(type)
    .argument('[host]', 'address of the server; without it, be the server')
    .option('-p, --port <port>', 'TCP port of the exchange', parseWhole, 18515)
    .option('-d, --ib-dev <device>', 'the device; the first one by default')
    .option('-i, --ib-port <port>', 'port of the device', parseWhole, 1)
    .option('-s, --size <bytes>', 'bytes of a message', parseWhole)
    .option('-m, --mtu <bytes>', 'path MTU', parseWhole, 1024)
    .option('-r, --rx-depth <n>', 'receives posted at a time', parseWhole, 500)
    .option('-n, --iters <n>', 'messages each way', parseWhole, 1000)
    .option('-l, --sl <n>', 'service level', parseWhole, 0)
    .option('-g, --gid-idx <n>', "index into the port's GID table; needed on RoCE", parseWhole)
    .option('-c, --chk', 'compare what comes back with what was sent')
    .addOption(
      new Option('-q, --num-qp <n>', 'queue pairs')
        .argParser(parseWhole)
        .default(16)
        .hideHelp(type !== 'srq'),
    );
  sub.action((host: string | undefined, options: Options) => run(type, host, options));
}

try {
  await command.parseAsync();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
