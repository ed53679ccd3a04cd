import { execFile } from 'node:child_process';
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { ensureKernel } from '../../tools/softrdma/kernel/locate.ts';
import { packageRoot } from '../../tools/softrdma/paths.ts';
import { temporary } from './helpers.ts';

const NOBODY = 65534;
const MODULES = ['commander', 'cli-progress', 'string-width', 'strip-ansi', 'ansi-regex', 'emoji-regex'];

// Run by an ordinary user, every suite here is this test.
it.runIf(process.getuid!() === 0)(
  'works for a user with no rights at all, from a clone of its own',
  async () => {
    using tmp = temporary();
    chmodSync(tmp.path, 0o755);
    const project = join(tmp.path, 'project');
    cpSync(join(packageRoot, 'dist/tools'), join(project, 'dist/tools'), { recursive: true });
    cpSync(join(packageRoot, 'tools/softrdma'), join(project, 'tools/softrdma'), { recursive: true });
    cpSync(join(packageRoot, 'package.json'), join(project, 'package.json'));
    for (const name of [...MODULES, 'is-fullwidth-code-point']) {
      cpSync(join(packageRoot, 'node_modules', name), join(project, 'node_modules', name), {
        recursive: true,
      });
    }
    const kernel = join(tmp.path, 'linux');
    cpSync(await ensureKernel(), kernel);
    chmodSync(kernel, 0o755);
    for (const dir of ['cache', 'tmp', 'project/out']) {
      mkdirSync(join(tmp.path, dir));
      chownSync(join(tmp.path, dir), NOBODY, NOBODY);
    }
    const script = `id -u; touch /etc/anything && echo overlay
    rping -s -a $RDMA_RXE_ADDR -C 5 & sleep 0.3; rping -c -a $RDMA_RXE_ADDR -C 5 && wait $! && echo rping
    echo written >out/file; touch refused 2>/dev/null || echo refused`;
    const { stdout } = await promisify(execFile)(
      'setpriv',
      [
        ...['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups', '--no-new-privs'],
        ...[process.execPath, join(project, 'dist/tools/softrdma/cli.js'), '--', 'sh', '-c', script],
      ],
      {
        cwd: project,
        env: {
          PATH: process.env.PATH,
          HOME: '/nonexistent',
          TMPDIR: join(tmp.path, 'tmp'),
          XDG_CACHE_HOME: join(tmp.path, 'cache'),
          NODE_RDMA_SOFT_KERNEL: kernel,
        },
      },
    );
    // Root inside, nobody outside: the host's own permissions hold for its files.
    expect(stdout).toBe('0\noverlay\nrping\nrefused\n');
    expect(readFileSync(join(project, 'out/file'), 'utf8')).toBe('written\n');
    expect(statSync(join(project, 'out/file')).uid).toBe(NOBODY);
    expect(existsSync(join(project, 'refused'))).toBe(false);
  },
);
