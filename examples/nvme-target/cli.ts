#!/usr/bin/env node
/** The command: one subsystem, its namespaces, the addresses it is at. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { CounterView } from '../counter-view.ts';
import type { Backend } from './backend.ts';
import { FileBackend } from './file-backend.ts';
import { MemoryBackend } from './memory-backend.ts';
import { DEFAULT_PORT, Target } from './target.ts';

interface Options {
  address: string[];
  port: number;
  nqn: string;
  file: string[];
  memory: number[];
  block: string;
  host?: string[];
  depth: number;
  queues: number;
  inCapsule: number;
  remoteInvalidate: boolean;
  syncFiles: boolean;
}

function parseWhole(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Give a whole number.');
  return Number(text);
}

/** 4096, 64k, 256M, 1G. */
function parseSize(text: string): number {
  const [, digits, unit] = /^(\d+)([kMG]?)$/.exec(text) ?? [];
  if (digits === undefined) throw new InvalidArgumentError('Give bytes, or a size such as 64k, 256M or 1G.');
  return Number(digits) * 1024 ** ['', 'k', 'M', 'G'].indexOf(unit ?? '');
}

function collect<T>(parse: (text: string) => T) {
  return (text: string, before: T[] | undefined): T[] => [...(before ?? []), parse(text)];
}

/** A path, or path:size for a file that may have to be made. */
function openFile(text: string, sync: boolean): Promise<FileBackend> {
  const [, path = text, size] = /^(.*):(\d+[kMG]?)$/.exec(text) ?? [];
  return FileBackend.open(path, { sync, ...(size !== undefined && { bytes: parseSize(size) }) });
}

async function serve(options: Options): Promise<void> {
  const { address, port, nqn, host, file, memory, depth, queues, inCapsule, remoteInvalidate } = options;
  if (file.length + memory.length === 0)
    throw new Error('give a namespace: --file path[:size] or --memory size');
  const target = new Target({
    depth,
    ioQueues: queues,
    inCapsule,
    remoteInvalidate,
    onError: (error) => console.error(`error: ${error.message}`),
  });
  const interrupted = new Promise<void>((resolve) => {
    process.once('SIGINT', resolve).once('SIGTERM', resolve);
  });
  try {
    const subsystem = target.addSubsystem({ nqn, ...(host && { allowedHosts: host }) });
    const backends: Backend[] = [];
    for (const text of file) backends.push(await openFile(text, options.syncFiles));
    for (const size of memory) backends.push(new MemoryBackend(size));
    for (const backend of backends) {
      const { nsid, blocks, blockBytes } = subsystem.addNamespace(backend, Number(options.block));
      console.log(`namespace ${nsid}: ${backend.name}, ${blocks} blocks of ${blockBytes} bytes`);
    }
    for (const one of address) {
      const at = target.listen(one, port);
      console.log(`listening on ${at.host} port ${at.port}`);
    }
    const view = new CounterView(() => ({ ...target.counters }));
    await interrupted;
    view.stop();
  } finally {
    await target.close();
  }
}

try {
  await new Command('nvme-target')
    .description('An NVMe over Fabrics target on RDMA: hosts connect with nvme connect -t rdma.')
    .requiredOption('-a, --address <address>', 'address of an RDMA device; repeatable', collect(String))
    .option('-p, --port <port>', 'port', parseWhole, DEFAULT_PORT)
    .option('-n, --nqn <nqn>', 'name of the subsystem', 'nqn.2026-11.org.node-rdma:target')
    .option('-f, --file <path[:size]>', 'a namespace in a file; repeatable', collect(String), [])
    .option('-m, --memory <size>', 'a namespace in memory; repeatable', collect(parseSize), [])
    .addOption(
      new Option('-b, --block <bytes>', 'block size')
        .choices(['512', '1024', '2048', '4096'])
        .default('4096'),
    )
    .option('--host <nqn>', 'let this host connect, and no others; repeatable', collect(String))
    .option('--depth <n>', 'entries of an I/O queue', parseWhole, 128)
    .option('--queues <n>', 'I/O queues of a host', parseWhole, 16)
    .option('--in-capsule <bytes>', 'data that a command may carry itself', parseSize, 4096)
    .option('--no-remote-invalidate', 'leave the invalidation of keys to the hosts')
    .option('--sync-files', 'read and write files on the event loop: for files in the page cache', false)
    .action(serve)
    .parseAsync();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
