"""
What a pyverbs program pays for an operation on the null device, at its best: one work request, made once and posted again
and again, lists being unknown to pyverbs; polls until all have completed.

  loop.py COUNT

prints nanoseconds of the processor per operation.
"""
import sys
import time

import pyverbs.enums as e
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, SendWR

DEPTH = 256
TURN = 32
BYTES = 64


def main():
    count = int(sys.argv[1])
    context = Context(name="null0")
    pd = PD(context)
    cq = CQ(context, DEPTH)
    mr = MR(pd, BYTES, e.IBV_ACCESS_LOCAL_WRITE)
    qp = QP(pd, QPInitAttr(qp_type=e.IBV_QPT_RC, scq=cq, rcq=cq, cap=QPCap(DEPTH, 1, 1, 1)))
    attr = QPAttr()
    attr.qp_state = e.IBV_QPS_RTS
    qp.modify(attr, e.IBV_QP_STATE)
    sges = [SGE(mr.buf, BYTES, mr.lkey)]
    wr = SendWR(opcode=e.IBV_WR_RDMA_WRITE, num_sge=1, sg=sges, send_flags=e.IBV_SEND_SIGNALED)
    wr.set_wr_rdma(mr.rkey, mr.buf)
    start = time.process_time_ns()
    done = 0
    while done < count:
        for _ in range(TURN):
            qp.post_send(wr)
        left = TURN
        while left > 0:
            got, wcs = cq.poll(left)
            assert all(wc.status == e.IBV_WC_SUCCESS for wc in wcs)
            left -= got
        done += TURN
    print((time.process_time_ns() - start) / done)


main()
