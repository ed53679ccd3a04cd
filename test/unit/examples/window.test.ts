import { describe, expect, it } from 'vitest';
import { Turns, Window } from '../../../examples/file-transfer/window.ts';

describe('Window', () => {
  it('hands out each slot to one holder, and to those who wait in their order', async () => {
    const window = new Window(['a', 'b']);
    const held = new Set([await window.take(), await window.take()]);
    expect(held).toEqual(new Set(['a', 'b']));
    expect(window.free).toBe(0);
    const order: string[] = [];
    const third = window.take().then((slot) => order.push(`third ${slot}`));
    const fourth = window.take().then((slot) => order.push(`fourth ${slot}`));
    window.release('b');
    window.release('a');
    await Promise.all([third, fourth]);
    expect(order).toEqual(['third b', 'fourth a']);
    window.release('a');
    window.release('b');
    expect(window.free).toBe(2);
  });

  it('rejects those who wait, and later ones, when it fails', async () => {
    const window = new Window([1]);
    await window.take();
    const waiting = window.take();
    window.fail(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
    await expect(window.take()).rejects.toThrow('gone');
  });
});

describe('Turns', () => {
  it('runs steps in order, whatever order they become ready in', async () => {
    const turns = new Turns();
    const done: number[] = [];
    const step = async (offset: number): Promise<void> => {
      await turns.wait(offset);
      done.push(offset);
      turns.advance(offset + 10);
    };
    await Promise.all([30, 10, 0, 20].map(step));
    expect(done).toEqual([0, 10, 20, 30]);
    expect(turns.next).toBe(40);
  });

  it('rejects those who wait, and later ones, when it fails', async () => {
    const turns = new Turns();
    const waiting = turns.wait(5);
    turns.fail(new Error('gone'));
    turns.fail(new Error('later'));
    await expect(waiting).rejects.toThrow('gone');
    await expect(turns.wait(0)).rejects.toThrow('gone');
  });
});
