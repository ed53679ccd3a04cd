/**
 * From a name that a peer sent to a file below the served directory, or a refusal.
 *
 * A name is a relative path with `/` between its parts. Symbolic links below the directory work as long as they
 * lead to something below it; what was opened is checked again through its descriptor, so that swapping a
 * directory for a link in the meantime gains nothing.
 */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readdir, realpath } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { isPartName } from './part-file.ts';
import { MAX_NAME_BYTES, Status, TransferError } from './protocol.ts';

/** NAME_MAX of Linux file systems. */
const MAX_PART_BYTES = 255;

function refuse(name: string, why: string): TransferError {
  return new TransferError(Status.NAME, `name ${JSON.stringify(name)} refused: ${why}`);
}

/** Throws TransferError (NAME) unless the name is a plain relative path. Looks at no file. */
export function checkName(name: string): void {
  if (name === '') throw refuse(name, 'it is empty; give the path of a file below the served directory');
  const bytes = Buffer.byteLength(name);
  if (bytes > MAX_NAME_BYTES) throw refuse(name, `it has ${bytes} bytes; the limit is ${MAX_NAME_BYTES}`);
  if (name.includes('\0')) throw refuse(name, 'it contains a NUL character');
  if (name.startsWith('/'))
    throw refuse(name, 'it is absolute; give a path relative to the served directory');
  for (const part of name.split('/')) {
    if (part === '..') throw refuse(name, '".." could lead out of the served directory');
    if (part === '' || part === '.') throw refuse(name, 'it has an empty part or "."');
    if (Buffer.byteLength(part) > MAX_PART_BYTES)
      throw refuse(name, `a part has more than ${MAX_PART_BYTES} bytes`);
    if (isPartName(part)) throw refuse(name, 'names of unfinished files are reserved');
  }
}

function isBelow(root: string, path: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}

/** Turns a system error into a TransferError that names the file as the peer does. */
export function fileError(name: string, error: unknown): TransferError {
  if (error instanceof TransferError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const quoted = JSON.stringify(name);
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new TransferError(Status.NOT_FOUND, `${quoted}: no such file or directory`, { cause: error });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new TransferError(Status.ACCESS, `${quoted}: the server may not access it (${code})`, {
        cause: error,
      });
    case 'ELOOP':
      return refuse(name, 'it goes through too many symbolic links');
    case 'EISDIR':
      return new TransferError(
        Status.NOT_A_FILE,
        `${quoted} is a directory; only regular files are transferred`,
      );
    default:
      return new TransferError(Status.IO, `${quoted}: ${code ?? message}`, { cause: error });
  }
}

/** Opens a regular file below `root` for reading. `root` must be a real path. Rejects with TransferError. */
export async function openBelow(root: string, name: string): Promise<FileHandle> {
  checkName(name);
  let handle: FileHandle | undefined;
  try {
    const path = await realpath(join(root, name));
    if (!isBelow(root, path)) throw refuse(name, 'a symbolic link leads out of the served directory');
    // Opening a device or a FIFO could already have an effect, so the type is looked at first and again after.
    requireRegular(name, await lstat(path));
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    requireRegular(name, await handle.stat());
    const opened = await realpath(`/proc/self/fd/${handle.fd}`);
    if (!isBelow(root, opened)) throw refuse(name, 'a symbolic link leads out of the served directory');
    return handle;
  } catch (error) {
    await handle?.close();
    throw fileError(name, error);
  }
}

function requireRegular(name: string, stats: { isFile(): boolean; isDirectory(): boolean }): void {
  if (stats.isFile()) return;
  const what = stats.isDirectory() ? 'a directory' : 'not a regular file';
  throw new TransferError(
    Status.NOT_A_FILE,
    `${JSON.stringify(name)} is ${what}; only regular files are transferred`,
  );
}

/** The real path under which a put of `name` will appear. Its directory must exist. Rejects with TransferError. */
export async function resolveTarget(root: string, name: string): Promise<string> {
  checkName(name);
  try {
    const directory = await realpath(join(root, dirname(name)));
    if (!isBelow(root, directory)) throw refuse(name, 'a symbolic link leads out of the served directory');
    const path = join(directory, basename(name));
    const stats = await lstat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    // A link at the name itself is replaced by the rename, not followed.
    if (stats && !stats.isSymbolicLink()) requireRegular(name, stats);
    return path;
  } catch (error) {
    throw fileError(name, error);
  }
}

/** Every regular file below `root` with its size in bytes, sorted by name; links are not followed. */
export async function listBelow(root: string): Promise<{ name: string; size: number }[]> {
  const files: { name: string; size: number }[] = [];
  const pending = [''];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    for (const entry of await readdir(join(root, directory), { withFileTypes: true })) {
      const name = directory === '' ? entry.name : `${directory}/${entry.name}`;
      if (entry.isDirectory()) pending.push(name);
      else if (entry.isFile() && !isPartName(entry.name)) {
        const stats = await lstat(join(root, name)).catch(() => undefined);
        if (stats) files.push({ name, size: stats.size });
      }
    }
  }
  return files.sort((a, b) => (a.name < b.name ? -1 : 1));
}
