#!/usr/bin/env node
import { Command, InvalidArgumentError, Option } from 'commander';
import { SoftRdmaError } from './errors.ts';
/** `softrdma [options] command...`: runs a command on a machine with RDMA devices. */
import { type RunOptions, runInMachine } from './run-command.ts';

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('give a number greater than 0');
  return value;
}

const program = new Command('softrdma')
  .description('Runs a command on a machine with the RDMA devices rxe0 (Soft-RoCE) and siw0 (Soft-iWARP).')
  .argument('<command...>', 'the command and its arguments')
  .addOption(
    new Option('--device <where>', 'soft: a kernel with soft devices; host: this machine and its own devices')
      .choices(['soft', 'host'])
      .default('soft'),
  )
  .option('--timeout <seconds>', 'end the command after so long, with status 124', positive)
  .option('--memory <size>', 'memory of the machine', '4G')
  .option('--cpus <count>', 'processors of the machine; default: as many as here, at most 2', positive)
  .option(
    '--writable <dir>',
    'one more directory of the host that the command may write to (repeatable)',
    (dir: string, dirs: string[]) => [...dirs, dir],
    [] as string[],
  )
  .option('--verbose', "print the kernel's own messages to standard error when done")
  .enablePositionalOptions()
  .passThroughOptions()
  .action(async (command: string[], options: RunOptions) => {
    process.exitCode = await runInMachine(command, options);
  });

program.parseAsync().catch((error: unknown) => {
  if (!(error instanceof SoftRdmaError)) throw error;
  process.stderr.write(`softrdma: ${error.message}\n`);
  // As env(1) and timeout(1) do: 127 for a command that is not there, 125 for a failure of our own.
  process.exitCode = error.code === 'ERR_SOFTRDMA_SPAWN' ? (error.errno === 2 ? 127 : 126) : 125;
});
