import { describe, expect, it } from 'vitest';
import { cmError } from '../../../lib/cm/events.ts';
import { errnoName, RdmaError, systemError, WcStatus, wcError, wcStatusName } from '../../../lib/errors.ts';
import { postError } from '../../../lib/ring/post-error.ts';

describe('RdmaError', () => {
  it('is an Error with a code, and carries only what is known', () => {
    const error = systemError('ibv_reg_mr', -12, '4096 bytes');
    expect(error).toBeInstanceOf(Error);
    expect(error).toBeInstanceOf(RdmaError);
    expect(error).toMatchObject({ name: 'RdmaError', code: 'ENOMEM', errno: -12, syscall: 'ibv_reg_mr' });
    expect(error.message).toBe('ibv_reg_mr ENOMEM: 4096 bytes');
    expect(Object.keys(error)).not.toContain('device');
  });

  it('names errno as the manual pages do', () => {
    expect(errnoName(-95)).toBe('EOPNOTSUPP');
    expect(errnoName(-19)).toBe('ENODEV');
    expect(errnoName(-9999)).toBe('E9999');
  });

  it('names every completion status', () => {
    expect(WcStatus.REM_ACCESS_ERR).toBe(10);
    expect(WcStatus.GENERAL_ERR).toBe(21);
    expect(wcStatusName(WcStatus.RNR_RETRY_EXC_ERR)).toBe('RNR_RETRY_EXC_ERR');
    expect(wcStatusName(99)).toBe('STATUS_99');
    const error = wcError(WcStatus.REM_ACCESS_ERR, { operation: 'RDMA_WRITE', qpNum: 17 });
    expect(error).toMatchObject({ code: 'ERR_RDMA_WC_REM_ACCESS_ERR', wcStatus: 10, qpNum: 17 });
    expect(error.message).toMatch(/^RDMA_WRITE failed with REM_ACCESS_ERR: .*rkey/);
  });

  it('takes the errno of an rdma_cm event where it says more than the event', () => {
    const peer = { host: '10.0.0.2', port: 7471 };
    expect(cmError({ name: 'ADDR_ERROR', status: -110 }, 'resolve addr', peer)).toMatchObject({
      code: 'ETIMEDOUT',
      errno: -110,
    });
    expect(cmError({ name: 'REJECTED', status: 28 }, 'connect', peer)).toMatchObject({
      code: 'ECONNREFUSED',
      syscall: 'rdma_connect',
      reason: 28,
    });
    expect(cmError({ name: 'REJECTED', status: -111 }, 'connect', peer)?.message).toContain(
      'connect ECONNREFUSED 10.0.0.2:7471',
    );
    expect(
      cmError({ name: 'UNREACHABLE', status: -110 }, 'connect', { host: '::1', port: 1 })?.message,
    ).toContain('[::1]:1');
    expect(cmError({ name: 'ESTABLISHED', status: 0 }, 'connect', peer)).toBeUndefined();
  });

  it('says how much of a batch is on its way when the provider refuses a later one', () => {
    // posted 2, wr_index 2, no check of ours
    const error = postError('ibv_post_send', 12, Uint32Array.of(2, 2, 0, 0, 0, 0), 5);
    expect(error).toMatchObject({ code: 'ENOMEM', errno: -12, posted: 2, wrIndex: 2, qpNum: 5 });
    expect(error.message).toMatch(/work request 2: the provider refused it; 2 before it are on their way/);
  });
});
