/** `npm run bench [-- what]`: Node next to C, as tables, JSON and plots. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError, Option } from 'commander';
import { deviceOption } from './device-option.ts';
import { describeNullVerbs, describePyverbs, measureNullVerbs, measurePyverbs } from './null-verbs/run.ts';
import { cells, compare, describe, nameOf, type PerfResult } from './perf/run.ts';
import { writeBars, writeJson } from './results.ts';
import { softHosts } from './soft-hosts.ts';

interface Options {
  readonly device: readonly string[];
  readonly host?: string;
  readonly pairs: number;
  readonly only?: RegExp;
}

const own = fileURLToPath(import.meta.url);
const softrdma = fileURLToPath(new URL('../tools/softrdma/cli.js', import.meta.url));

function count(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new InvalidArgumentError('give a whole number greater than 0');
}

/** The boundary alone; needs no device. */
function nullVerbs(pairs: number, seconds: number): void {
  const results = measureNullVerbs(pairs, seconds);
  console.log(describeNullVerbs(results));
  const pyverbs = measurePyverbs(pairs, seconds);
  console.log(describePyverbs(pyverbs));
  console.log(writeJson('null-verbs', { results, pyverbs }));
  const bars = results.map(({ name, ratio }) => ({ name, value: ratio }));
  console.log(writeBars('null-verbs', 'Cost of an operation on the null device, Node / C', bars));
}

/** Next to perftest, on the devices that are here. */
async function perf(
  devices: readonly string[],
  host: string | undefined,
  pairs: number,
  quick: boolean,
  only: RegExp,
): Promise<void> {
  const results: PerfResult[] = [];
  for (const device of devices) {
    const address = host ?? softHosts[device];
    if (address === undefined) throw new Error(`--host: the address of ${device} is not known`);
    for (const cell of cells(device, quick)) {
      if (!only.test(nameOf({ device, cell }))) continue;
      const result = await compare({ device, host: address }, cell, pairs);
      results.push(result);
      console.log(describe(result));
    }
  }
  console.log(writeJson('perf', results));
  const bars = results.map((result) => ({ name: nameOf(result), value: result.ratio }));
  console.log(writeBars('perf', 'Node / C: more is better, but for latencies', bars));
}

/** Runs this program again inside softrdma, unless it is there or the devices are this machine's. */
function inSoftRdma(args: readonly string[], devices: readonly string[]): void {
  const soft = devices.every((device) => device in softHosts);
  const command = [own, ...args, ...devices.flatMap((device) => ['--device', device])];
  const [file, list] = soft
    ? [process.execPath, [softrdma, '--', process.execPath, ...command]]
    : [process.execPath, command];
  const env = { ...process.env, NODE_RDMA_BENCH: '1' };
  process.exitCode = spawnSync(file, soft ? list : command, { stdio: 'inherit', env }).status ?? 1;
}

async function onDevices(options: Options, quick: boolean): Promise<void> {
  const { device, host, pairs, only = /./ } = options;
  const devices = device.length > 0 ? device : ['rxe0', 'siw0'];
  if (process.env.NODE_RDMA_BENCH !== undefined) {
    await perf(devices, host, pairs, quick, only);
    return;
  }
  const args = [
    quick ? 'perf-quick' : 'perf',
    '--pairs',
    String(pairs),
    '--only',
    only.source,
    ...(host === undefined ? [] : ['--host', host]),
  ];
  inSoftRdma(args, devices);
}

/** Runs a program of its own in softrdma. */
function runOwn(name: string, args: readonly string[]): void {
  const file = fileURLToPath(new URL(`${name}.js`, import.meta.url));
  const { status } = spawnSync(process.execPath, [softrdma, '--', process.execPath, file, ...args], {
    stdio: 'inherit',
  });
  if (status !== 0) process.exitCode = status ?? 1;
}

const devices = deviceOption('rxe0 and siw0 in softrdma');
const hostOption = new Option('--host <address>', "address of the device's port, where it is not a soft one");
const pairsOption = (pairs: number): Option =>
  new Option('--pairs <n>', 'how often each is measured').argParser(count).default(pairs);

const onlyOption = new Option('--only <regexp>', 'only the comparisons whose names match').argParser(
  (text: string) => new RegExp(text),
);

const program = new Command('bench').description('Node next to C on the same device.');

program
  .command('all', { isDefault: true })
  .description('null-verbs and perf; on the soft devices messages, net-stream and scale too')
  .addOption(devices)
  .addOption(hostOption)
  .addOption(pairsOption(5))
  .action(async (options: Options) => {
    nullVerbs(options.pairs, 0.6);
    await onDevices(options, false);
    if (options.host !== undefined) return;
    const args = options.device.flatMap((name) => ['--device', name]);
    for (const name of ['messages', 'net-stream', 'scale']) runOwn(name, args);
  });
program
  .command('quick')
  .description('one pair of the most telling ones, to show that they work')
  .addOption(devices)
  .addOption(hostOption)
  .action(async (options: Options) => {
    nullVerbs(1, 0.3);
    await onDevices({ ...options, pairs: 1 }, true);
  });
program
  .command('null-verbs')
  .description('the boundary alone, on a device that costs nothing')
  .addOption(pairsOption(5))
  .action(({ pairs }: Options) => nullVerbs(pairs, 0.9));
for (const [name, quick] of [
  ['perf', false],
  ['perf-quick', true],
] as const) {
  program
    .command(name, { hidden: quick })
    .description('bandwidth, rate and latency next to perftest and ibv_rc_pingpong')
    .addOption(devices)
    .addOption(hostOption)
    .addOption(pairsOption(5))
    .addOption(onlyOption)
    .action((options: Options) => onDevices(options, quick));
}

/** Programs of their own, run in softrdma with the arguments that follow their name. */
for (const name of [
  'scale',
  'messages',
  'dma-thresholds',
  'net-stream',
  'net-http',
  'kv',
  'nvme-target',
  'transfer-ratio',
]) {
  program
    .command(name)
    .description(`bench/${name}.ts, in softrdma; -- --help for its options`)
    .argument('[args...]')
    .allowUnknownOption()
    .action((args: string[]) => runOwn(name, args));
}

await program.parseAsync();
