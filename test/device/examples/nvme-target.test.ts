/** The NVMe target of examples/, under the Linux kernel's own initiator. */
import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { MemoryBackend } from '../../../examples/nvme-target/memory-backend.ts';
import { Target } from '../../../examples/nvme-target/target.ts';
import { devices } from '../helpers/devices.ts';
import {
  connect,
  connected,
  controllerOf,
  disconnectAll,
  discover,
  HOST,
  hashTree,
  hostName,
  must,
  NQN,
  nvmeConnect,
  run,
  shell,
  startTarget,
  type TargetProcess,
} from './nvme/kernel.ts';

const MiB = 1024 * 1024;
const FILE = '/tmp/nvme-target-disk';
const MOUNT = '/tmp/nvme-target-mount';
let target: TargetProcess | undefined;

async function start(...args: string[]): Promise<void> {
  target = await startTarget('-n', NQN, ...args);
}

afterEach(async () => {
  await run('umount', [MOUNT], 20_000);
  await disconnectAll();
  await target?.kill();
  target = undefined;
  await rm(FILE, { force: true });
});

// Minutes where many share the machine's processors; half a minute on one that is idle.
describe.each(devices)("the kernel's initiator over $name", { timeout: 300_000 }, ({ name, host }) => {
  it('discovers, connects, and is told what it asks for', async () => {
    await start('-a', host, '-m', '32M', '-f', `${FILE}:64M`);
    const { records } = JSON.parse(await discover(host));
    expect(records).toMatchObject([
      { subtype: 'current discovery subsystem', traddr: host, trsvcid: '4420', trtype: 'rdma' },
      {
        subtype: 'nvme subsystem',
        subnqn: NQN,
        traddr: host,
        rdma_prtype: name === 'rxe0' ? 'roce-v2' : 'iwarp',
      },
    ]);
    await nvmeConnect(host);
    const controller = controllerOf();
    const device = `/dev/${controller.name}`;
    const first = await controller.namespace(1);
    await controller.namespace(2);
    const json = async (...args: string[]) => JSON.parse(await must('nvme', [...args, '-o', 'json']));
    expect(await json('id-ctrl', device)).toMatchObject({
      mn: expect.stringContaining('node-rdma NVMe target'),
      subnqn: NQN,
      mdts: 8,
      maxcmd: 128,
      ioccsz: (64 + 4096) / 16,
      sgls: 0x10_0005,
      vwc: 1,
    });
    expect(await json('id-ns', first)).toMatchObject({ nsze: (64 * MiB) / 4096, lbafs: [{ ds: 12 }] });
    expect(await json('ns-descs', first)).toBeDefined();
    expect(await json('list-ns', device)).toMatchObject({ nsid_list: [{ nsid: 1 }, { nsid: 2 }] });
    const before = await json('smart-log', device);
    expect(before).toMatchObject({ critical_warning: 0, media_errors: '0', percent_used: 0 });
    await must('dd', [`if=/dev/zero`, `of=${first}`, 'bs=1M', 'count=4', 'oflag=direct']);
    await must('dd', [`if=${first}`, 'of=/dev/null', 'bs=1M', 'count=4', 'iflag=direct']);
    const after = await json('smart-log', device);
    expect(Number(after.data_units_written) - Number(before.data_units_written)).toBeGreaterThanOrEqual(8);
    expect(Number(after.host_read_commands)).toBeGreaterThan(Number(before.host_read_commands));
    expect(await must('nvme', ['get-feature', device, '-f', '7'])).toContain('0x000f000f');
    expect(await must('nvme', ['get-feature', device, '-f', '0xf'])).toMatch(/Current value:.*1388/);
    // What the target does not have ends in a status, and in the error log.
    const refused = await run('nvme', ['get-feature', device, '-f', '0x10']);
    expect(refused).toMatchObject({ status: 1, out: expect.stringMatching(/Invalid Field/i) });
    const { errors } = await json('error-log', device, '-e', '4');
    expect(errors[0]).toMatchObject({ status_field: expect.anything(), trtype: 1 });
    // Flush, Write, Read: supported, and Write changes blocks.
    const effects = `nvme get-log ${device} --log-id=5 --log-len=4096 -b | od -An -tx4 -j1024 -N12`;
    expect(await shell(effects)).toMatch(/00000001 00000003 00000001/);
    expect(await target!.stop()).toBe(0);
    expect(target!.output()).not.toContain('error');
  });

  it('keeps a file system: copied, checked, and the same after connecting again', async () => {
    await start('-a', host, '-f', `${FILE}:96M`);
    const device = await (await connected(host)).namespace(1);
    await shell(`mkfs.ext4 -q -F ${device}; mkdir -p ${MOUNT}; mount -t ext4 ${device} ${MOUNT}`);
    await shell(`cp -a lib docs examples ${MOUNT}; sync`);
    const hash = await hashTree(MOUNT);
    await must('umount', [MOUNT]);
    await must('fsck.ext4', ['-f', '-n', device]);
    await disconnectAll();
    const again = await (await connected(host)).namespace(1);
    await must('mount', ['-t', 'ext4', '-o', 'ro', again, MOUNT]);
    expect(await hashTree(MOUNT)).toBe(hash);
    // And the same as what was copied: lost+found has no files.
    expect(hash).toBe(
      await shell(
        `cd . && find docs examples lib -type f | sed 's|^|./|' | LC_ALL=C sort | xargs sha256sum | sha256sum`,
      ),
    );
  });

  it('passes fio with verification, in blocks of 4 k to 1 M', async () => {
    await start('-a', host, '-f', `${FILE}:128M`, '-m', '128M');
    const controller = await connected(host);
    for (const nsid of [1, 2]) {
      const device = await controller.namespace(nsid);
      const out = await must('fio', fioVerify(device), 200_000);
      expect(out).toMatch(/err= 0/);
      expect(out).not.toMatch(/verify.*(failed|bad)/i);
    }
    expect(controller.state()).toBe('live');
  });

  it.each([
    ['with', []],
    ['without', ['--no-remote-invalidate']],
  ])('moves data %s remote invalidation, and without data in capsules', async (_, args) => {
    await start('-a', host, '-m', '16M', '--in-capsule', '0', ...args);
    const device = await (await connected(host)).namespace(1);
    await shell(
      `head -c 1M /dev/urandom > /tmp/nvme-data; dd if=/tmp/nvme-data of=${device} bs=64k oflag=direct 2>&1
       dd if=${device} bs=4k count=256 iflag=direct 2>/dev/null | cmp - /tmp/nvme-data`,
    );
  });

  it('survives kill -9 under load: the initiator comes back, and the file system is clean', async () => {
    const options = ['-a', host, '-f', `${FILE}:96M`];
    await start(...options);
    const controller = await connected(host);
    const device = await controller.namespace(1);
    await shell(`mkfs.ext4 -q -F ${device}; mkdir -p ${MOUNT}; mount -t ext4 ${device} ${MOUNT}`);
    const load = shell(`for i in 1 2 3; do cp -a lib ${MOUNT}/$i; sync; done`, 200_000);
    await sleep(500);
    await target!.kill();
    await sleep(500);
    await start(...options);
    await load;
    expect(controller.state()).toBe('live');
    const hash = await hashTree('lib');
    for (const copy of [1, 2, 3]) expect(await hashTree(`${MOUNT}/${copy}`)).toBe(hash);
    await must('umount', [MOUNT]);
    await must('fsck.ext4', ['-f', '-n', device]);
  });

  it('serves several hosts at once, and only those that it allows', async () => {
    await start('-a', host, '-m', '32M', '--host', hostName(1).nqn, '--host', hostName(2).nqn);
    const one = await connected(host, hostName(1));
    const two = await connected(host, hostName(2), 'nr_io_queues=1');
    expect(two.name).not.toBe(one.name);
    const stranger = await connect(host, hostName(3));
    expect(stranger.status).not.toBe(0);
    expect(await must('dmesg', [])).toMatch(/Connect for subsystem .* is not allowed, hostnqn: .*3$/m);
    expect(JSON.parse(await discover(host, hostName(3))).records).toHaveLength(1);
    const devices = [await one.namespace(1), await two.namespace(1)];
    // Each writes its half, at the same time; each reads what the other has written.
    await Promise.all(
      devices.map((device, i) =>
        shell(
          `head -c 1M /dev/urandom > /tmp/nvme-half${i}
           dd if=/tmp/nvme-half${i} of=${device} bs=64k seek=${i * 16} oflag=direct 2>&1`,
        ),
      ),
    );
    await Promise.all(
      devices.map((device, i) =>
        shell(
          `dd if=${device} bs=64k skip=${(1 - i) * 16} count=16 iflag=direct 2>/dev/null | cmp - /tmp/nvme-half${1 - i}`,
        ),
      ),
    );
  });

  it('sees a namespace that is added while it is connected', async () => {
    const local = new Target();
    const subsystem = local.addSubsystem({ nqn: NQN });
    subsystem.addNamespace(new MemoryBackend(8 * MiB));
    local.listen(host);
    try {
      const controller = await connected(host, HOST);
      await controller.namespace(1);
      subsystem.addNamespace(new MemoryBackend(16 * MiB));
      const added = await controller.namespace(2);
      expect((await must('blockdev', ['--getsize64', added])).trim()).toBe(String(16 * MiB));
      subsystem.addNamespace(new MemoryBackend(8 * MiB), 512);
      const third = await controller.namespace(3);
      expect((await must('blockdev', ['--getss', third])).trim()).toBe('512');
      await disconnectAll();
    } finally {
      await local.close();
    }
  });
});

/**
 * Random reads and writes, mixed, of blocks of 4 k to 1 M, 32 deep, by 4 jobs, every byte checked. Once over the range: in a
 * second pass fio reads what it is writing, and takes that for an error even on a plain file.
 */
function fioVerify(device: string): string[] {
  return [
    '--name=verify',
    `--filename=${device}`,
    '--direct=1',
    '--ioengine=libaio',
    '--rw=randrw',
    '--bsrange=4k-1M',
    '--blockalign=4k',
    '--iodepth=32',
    '--numjobs=4',
    '--size=32M',
    '--offset_increment=32M',
    '--verify=crc32c',
    '--verify_fatal=1',
    '--verify_state_save=0',
    '--randrepeat=0',
  ];
}
