"""Small messages by pyverbs, as its own documentation sends them: one call for each work request and each completion.

    pyverbs-rate.py server HOST PORT SIZE COUNT DEPTH
    pyverbs-rate.py client HOST PORT SIZE COUNT DEPTH    prints messages per second
"""

import sys
import time

import pyverbs.cm_enums as ce
from pyverbs.cmid import CMID, AddrInfo
from pyverbs.qp import QPCap, QPInitAttr


def main():
    role, host, port = sys.argv[1:4]
    size, count, depth = map(int, sys.argv[4:7])
    # All receives are there from the start: on iWARP a message that finds none ends the connection.
    max_recv_wr = count if role == "server" else 1
    cap = QPCap(max_send_wr=depth, max_recv_wr=max_recv_wr, max_send_sge=1, max_recv_sge=1)
    init = QPInitAttr(cap=cap, sq_sig_all=1)
    if role == "server":
        passive = AddrInfo(src=host, src_service=port, port_space=ce.RDMA_PS_TCP, flags=ce.RAI_PASSIVE)
        listener = CMID(creator=passive, qp_init_attr=init)
        listener.listen()
        print("ready", flush=True)
        cmid = listener.get_request()
        mr = cmid.reg_msgs(size)
        for _ in range(count):
            cmid.post_recv(mr)
        cmid.accept()
        for _ in range(count):
            cmid.get_recv_comp()
        return
    cmid = CMID(creator=AddrInfo(dst=host, dst_service=port, port_space=ce.RDMA_PS_TCP), qp_init_attr=init)
    cmid.connect()
    mr = cmid.reg_msgs(size)
    start = time.perf_counter()
    for sent in range(count):
        if sent >= depth:
            cmid.get_send_comp()
        cmid.post_send(mr)
    for _ in range(min(depth, count)):
        cmid.get_send_comp()
    print(count / (time.perf_counter() - start), flush=True)
    # The last messages are on their way to the receiver, which ends first.
    time.sleep(0.2)


main()
