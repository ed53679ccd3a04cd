/** What the conformance tests are written with: one implementation for each case, run on each device. */
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { type Device, openDevice, type ProtectionDomain } from '../../lib/index.ts';
import { devices } from '../device/helpers/devices.ts';
import { rdmaErrorOf } from '../device/helpers/rejection.ts';
import { cases } from './cases.ts';
import { type DeviceName, difference, type Outcome, readExpected } from './matrix.ts';

declare module 'vitest' {
  interface TaskMeta {
    /** How a conformance case ended; the runner reads it from the report. */
    conformance?: { readonly id: string; readonly device: DeviceName; readonly outcome: Outcome };
  }
}

/** What a case runs with. Device and domain are shared by all cases. */
export interface Env {
  readonly name: DeviceName;
  /** Address of the device's network interface. */
  readonly host: string;
  readonly device: Device;
  readonly pd: ProtectionDomain;
}

/** A case's test: it returns an outcome when it is not a pass, and throws when it fails. */
// biome-ignore lint/suspicious/noConfusingVoidType: most tests return nothing.
export type Body = (env: Env) => Outcome | void | Promise<Outcome | void>;

const root = fileURLToPath(new URL('../..', import.meta.url));
/** The runner sets it when it records what comes out, instead of checking it. */
const recording = process.env.CONFORMANCE_RECORD === '1';
const expected = recording ? {} : readExpected(root);
/** Ids of the cases that have a test. */
export const implemented = new Set<string>();

const opened = new Map<DeviceName, Env>();

function envOf(name: DeviceName, host: string): Env {
  let env = opened.get(name);
  if (env === undefined || env.device.closed) {
    const device = openDevice(name);
    env = { name, host, device, pd: device.allocPd() };
    opened.set(name, env);
  }
  return env;
}

afterAll(() => {
  for (const { device } of opened.values()) device.close();
  opened.clear();
});

/** The test of every case of [file].[type]: one that is missing does not compile. */
export function implement<F extends keyof typeof cases, T extends keyof (typeof cases)[F] & string>(
  file: F,
  type: T,
  bodies: { readonly [C in keyof (typeof cases)[F][T]]: Body },
): void {
  for (const test of Object.keys(bodies)) implemented.add(`${file}.${type}.${test}`);
  describe.each(devices)(`$name ${file}.${type}`, ({ name, host }) => {
    for (const [test, body] of Object.entries<Body>(bodies)) {
      it(test, async ({ task }) => {
        const id = `${file}.${type}.${test}`;
        const outcome: Outcome = (await body(envOf(name, host))) ?? { verdict: 'pass' };
        task.meta.conformance = { id, device: name, outcome };
        if (recording) return;
        const wrong = difference(id, name, outcome, expected[id]?.[name]);
        if (wrong !== undefined) throw new Error(wrong);
      });
    }
  });
}

/** The same test for every case of [file].[type]. */
export function implementAll<F extends keyof typeof cases, T extends keyof (typeof cases)[F] & string>(
  file: F,
  type: T,
  body: Body,
): void {
  const names = Object.keys(cases[file][type] as object);
  type Bodies = { readonly [C in keyof (typeof cases)[F][T]]: Body };
  implement(file, type, Object.fromEntries(names.map((name) => [name, body])) as Bodies);
}

/**
 * The outcome of a case whose capability the device lacks: [action] must be refused with an error that says so.
 *
 * @param codes of errors that say so; EOPNOTSUPP by default
 */
export async function refused(
  action: () => unknown,
  codes: readonly string[] = ['EOPNOTSUPP'],
): Promise<Outcome> {
  const { code, message } = await rdmaErrorOf(action);
  expect(codes, message).toContain(code);
  return absent(message);
}

/** The outcome of a case whose capability the device lacks, as the test has seen. */
export function absent(why: string): Outcome {
  return { verdict: 'absent', why };
}

/** The outcome of a case about something that is not there to be tested. */
export function notApplicable(why: string): Outcome {
  return { verdict: 'not applicable', why };
}
