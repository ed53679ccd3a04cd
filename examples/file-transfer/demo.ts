#!/usr/bin/env node
/**
 * The demonstration: a file goes both ways over every device, between two processes. Without RDMA devices of its own
 * a machine runs it on a kernel with soft ones; with `--device host` it runs on the machine's own devices.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';

interface Options {
  device: 'soft' | 'host';
  address?: string;
  size: string;
  compare: boolean;
}

function run({ device, address, size, compare }: Options): void {
  if (device === 'host' && address === undefined) {
    throw new Error("--device host needs --address, the IP address of the RDMA device's network interface");
  }
  const softrdma = fileURLToPath(new URL('../../tools/softrdma/cli.js', import.meta.url));
  const guest = fileURLToPath(new URL('./demo-guest.js', import.meta.url));
  const args = [
    guest,
    '--size',
    size,
    ...(compare ? [] : ['--no-compare']),
    ...(address ? ['--address', address] : []),
  ];
  const child = spawn(process.execPath, [softrdma, '--device', device, '--', process.execPath, ...args], {
    stdio: 'inherit',
  });
  // Ctrl-C reaches the child through the terminal; this process waits for it to clean up.
  process.on('SIGINT', () => {}).on('SIGTERM', () => child.kill('SIGTERM'));
  child.once('exit', (status) => {
    process.exitCode = status ?? 1;
  });
}

try {
  await new Command('demo')
    .description('Sends a file of random bytes both ways over every RDMA device and checks it.')
    .addOption(
      new Option('--device <where>', 'soft: a kernel with rxe and siw; host: this machine')
        .choices(['soft', 'host'])
        .default('soft'),
    )
    .option('--address <address>', 'with --device host: address of the device')
    .option('--size <MiB>', 'size of the file', '256')
    .option('--no-compare', 'do not compare with rcopy')
    .action(run)
    .parseAsync();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
