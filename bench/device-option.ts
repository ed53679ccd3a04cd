import { Option } from 'commander';

/** --device, which may be given several times; [none] says what is measured when it is not given. */
export const deviceOption = (none: string): Option =>
  new Option('--device <name>', `RDMA device (repeatable); default: ${none}`)
    .argParser((name: string, names: string[]) => [...names, name])
    .default([] as string[]);
