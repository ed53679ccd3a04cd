import { expect, it } from 'vitest';
import { devices } from './helpers/devices.ts';
import { documented, runProgram } from './helpers/program.ts';

it.each(devices)('the first program of the README runs on $name', ({ host }) => {
  const source = documented('README.md').replaceAll('10.0.1.1', host);
  // It goes on listening, as a server does: the test ends it when it has said what it should.
  const { stdout, status } = runProgram(`${source}\nsetTimeout(() => process.exit(0), 500);\n`);
  expect(stdout).toBe('hello over RDMA\n');
  expect(status).toBe(0);
});

it('the datagram of docs/verbs.md arrives', () => {
  expect(runProgram(documented('docs/verbs.md', '## Queue pairs without rdma_cm'))).toEqual({
    stdout: 'a datagram\n',
    stderr: '',
    status: 0,
  });
});
