/** What is changed in the kernel's source before it is built. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A replacement in one file. */
export interface Change {
  readonly file: string;
  /** Occurs exactly once. */
  readonly from: string;
  readonly to: string;
}

/** Changes that belong together. */
export interface Patch {
  readonly name: string;
  readonly changes: readonly Change[];
}

/** With 100 ticks a second, two programs that poll hold both processors for 10 ms at a time. */
const ticks: Patch = {
  name: '1000 ticks a second',
  changes: [
    {
      file: 'arch/um/Kconfig',
      from: 'config HZ\n\tint\n\tdefault 100\n',
      to: 'config HZ\n\tint\n\tdefault 1000\n',
    },
  ],
};

/**
 * A program's process and the thread that is its processor hand over to each other at every system call and page fault.
 * Linux wakes each up on an idle CPU of the host, which in a virtual machine takes 20 µs; here both stay on one. A machine
 * takes the CPUs that it may run on in order, from a place that its process number gives.
 */
const sharedHostCpu: Patch = {
  name: 'a process stays on the host CPU of its processor',
  changes: [
    {
      file: 'arch/um/include/shared/skas/mm_id.h',
      from: '\tint syscall_data_len;\n',
      to: '\tint syscall_data_len;\n\tint host_cpu;\n',
    },
    {
      file: 'arch/um/os-Linux/skas/process.c',
      from: '#include <timetravel.h>\n',
      to: '#include <smp.h>\n#include <timetravel.h>\n',
    },
    {
      file: 'arch/um/os-Linux/skas/process.c',
      from: '\tif (using_seccomp) {\n\t\twait_stub_done_seccomp(mm_id, 1, 1);\n',
      to: '\tmm_id->host_cpu = -1;\n\tif (using_seccomp) {\n\t\twait_stub_done_seccomp(mm_id, 1, 1);\n',
    },
    {
      file: 'arch/um/os-Linux/skas/process.c',
      from: 'static int unscheduled_userspace_iterations;\n',
      to: `static int choose_host_cpu(void)
{
\tcpu_set_t allowed;
\tint cpu, left;

\tCPU_ZERO(&allowed);
\tif (syscall(__NR_sched_getaffinity, 0, sizeof(allowed), &allowed) <= 0)
\t\treturn -1;
\tleft = (getpid() * uml_ncpus + uml_curr_cpu()) % CPU_COUNT(&allowed);
\tfor (cpu = 0; !CPU_ISSET(cpu, &allowed) || left-- > 0; cpu++)
\t\t;
\treturn cpu;
}

static void stay_on(int pid, int host_cpu)
{
\tcpu_set_t set;

\tCPU_ZERO(&set);
\tCPU_SET(host_cpu, &set);
\tsyscall(__NR_sched_setaffinity, pid, sizeof(set), &set);
}

static void share_host_cpu(struct mm_id *mm_id)
{
\tstatic __thread int chosen, host_cpu;

\tif (!chosen) {
\t\tchosen = 1;
\t\thost_cpu = choose_host_cpu();
\t\tif (host_cpu >= 0)
\t\t\tstay_on(0, host_cpu);
\t}
\tif (host_cpu < 0 || mm_id->host_cpu == host_cpu)
\t\treturn;
\tmm_id->host_cpu = host_cpu;
\tstay_on(mm_id->pid, host_cpu);
}

static int unscheduled_userspace_iterations;
`,
    },
    {
      file: 'arch/um/os-Linux/skas/process.c',
      from: '\t\tenter_turnstile(mm_id);\n\n',
      to: '\t\tenter_turnstile(mm_id);\n\t\tshare_host_cpu(mm_id);\n\n',
    },
  ],
};

/**
 * siw_accept() sends the MPA reply before it takes over the socket. What a quick client sends in between is in the socket,
 * its arrival announced to nobody: about one connection in thirty never gets its first message.
 */
const firstMessage: Patch = {
  name: 'siw_accept() looks for what came before it took over the socket',
  changes: [
    {
      file: 'drivers/infiniband/sw/siw/siw_cm.c',
      from: '\t\tsiw_qp_socket_assoc(cep, qp);\n\t\trv = siw_cm_upcall(cep, IW_CM_EVENT_ESTABLISHED, 0);\n',
      to:
        '\t\tsiw_qp_socket_assoc(cep, qp);\n' +
        '\t\tlock_sock(cep->sock->sk);\n' +
        '\t\tsiw_qp_llp_data_ready(cep->sock->sk);\n' +
        '\t\trelease_sock(cep->sock->sk);\n' +
        '\t\trv = siw_cm_upcall(cep, IW_CM_EVENT_ESTABLISHED, 0);\n',
    },
  ],
};

/**
 * in_syscall is the queue pair's, not the thread's: siw's own thread, which goes on where a system call ran out of room, may
 * find it set, and takes a program's address for its own. User-mode Linux panics then: "Segfault with no mm".
 */
const kernelThread: Patch = {
  name: "siw_try_1seg() does not read a program's memory from a kernel thread",
  changes: [
    {
      file: 'drivers/infiniband/sw/siw/siw_qp_tx.c',
      from: '\t\t} else if (c_tx->in_syscall) {\n',
      to: '\t\t} else if (c_tx->in_syscall && current->mm) {\n',
    },
  ],
};

/** Part of what identifies a kernel in the cache. */
export const PATCHES: readonly Patch[] = [ticks, sharedHostCpu, firstMessage, kernelThread];

/**
 * Applies a patch below `source`. False, with nothing changed, when a text to replace is not there just once: a later kernel
 * may have the same cure, or need none.
 */
export function applyPatch(source: string, { changes }: Patch): boolean {
  const texts = new Map<string, string>();
  for (const { file, from, to } of changes) {
    const path = join(source, file);
    if (!existsSync(path)) return false;
    const parts = (texts.get(path) ?? readFileSync(path, 'utf8')).split(from);
    if (parts.length !== 2) return false;
    texts.set(path, parts.join(to));
  }
  for (const [path, text] of texts) writeFileSync(path, text);
  return true;
}
