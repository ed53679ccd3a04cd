/**
 * The cases: those of pyverbs' own suite that belong to no provider (rdma-core, tests/test_*.py, by file, class and
 * name), in our own words, and those that it lacks (`beyond`). The word before each tells on which of the soft devices
 * pyverbs 44 passes it; 'newer' are cases that came to pyverbs after rdma-core 44.
 */

/** Where pyverbs 44 passes a case. */
export type Baseline = 'both' | 'rxe' | 'none' | 'newer' | 'ours';

/** Baseline and description of a case. */
export type Case = readonly [baseline: Baseline, about: string];

export const cases = {
  test_device: {
    DeviceTest: {
      test_dev_list: ['both', 'the device is in the list, with its transport and GUID'],
      test_open_dev: ['both', 'the device opens'],
      test_query_device: ['both', 'the limits that ibv_query_device tells make sense'],
      test_query_pkey: ['both', 'the first P_Key of the port'],
      test_get_pkey_index: ['newer', 'the index of a P_Key in the table of the port'],
      test_query_gid: ['both', 'the first GID of the port'],
      test_query_gid_table: ['both', 'all GIDs, with type and network device'],
      test_query_gid_table_bad_flow: ['both', 'a GID table that has no room for the entries'],
      test_query_gid_ex: ['both', 'one entry of the GID table'],
      test_query_gid_ex_bad_flow: ['rxe', 'an empty entry of the GID table is refused'],
      test_query_device_ex: ['both', 'the attributes that ibv_query_device_ex adds'],
      test_phys_port_cnt_ex: ['both', 'both queries count the same ports'],
      test_query_port: ['both', 'state, MTUs, width, speed and link layer of the port'],
      test_query_port_bad_flow: ['both', 'a port that is not there is refused'],
      test_query_port_speed: ['newer', 'the effective speed of the port (ibv_query_port_speed)'],
    },
    DMTest: {
      test_create_dm: ['none', 'device memory is allocated'],
      test_destroy_dm: ['none', 'device memory is freed'],
      test_create_dm_bad_flow: ['none', 'device memory of an illegal size is refused'],
      test_destroy_dm_bad_flow: ['none', 'device memory is freed twice'],
      test_dm_write: ['none', 'device memory is written'],
      test_dm_write_bad_flow: ['none', 'a write past the end of device memory is refused'],
      test_dm_read: ['none', 'device memory is read back'],
      test_multi_process_alloc_dm: ['none', 'several processes allocate device memory'],
    },
    SharedDMTest: {
      test_import_dm: ['none', 'device memory is imported by another context'],
    },
  },
  test_fork: {
    ForkAPITest: {
      test_is_fork_initialized: ['both', 'what fork(2) does to registered memory is known'],
    },
  },
  test_pd: {
    PDTest: {
      test_alloc_pd: ['both', 'a protection domain is allocated'],
      test_dealloc_pd: ['both', 'a protection domain is deallocated'],
      test_multiple_pd_creation: ['both', 'many domains come and go'],
      test_destroy_pd_twice: ['both', 'a domain is closed twice'],
    },
  },
  test_addr: {
    AHTest: {
      test_create_ah: ['rxe', 'an address handle with a global route'],
      test_create_ah_roce: ['rxe', 'on RoCE an address handle without GRH is refused'],
      test_destroy_ah: ['rxe', 'an address handle is destroyed'],
    },
  },
  test_cq: {
    CQAPITest: {
      test_create_cq: ['both', 'queues of 1, half of and all of max_cqe entries, on each vector'],
      test_create_cq_with_comp_channel: ['both', 'the same with a completion channel'],
      test_create_cq_bad_flow: ['both', 'too many entries and a vector that is not there are refused'],
    },
    CQTest: {
      test_resize_cq: ['rxe', 'a queue shrinks and grows, but not below what lies in it'],
    },
  },
  test_cq_events: {
    CqEventsTestCase: {
      test_cq_events_ud: ['rxe', 'UD traffic that is woken through the completion channel'],
      test_cq_events_rc: ['rxe', 'RC traffic that is woken through the completion channel'],
    },
  },
  test_cqex: {
    CqExTestCase: {
      test_ud_traffic_cq_ex: ['rxe', 'UD traffic on an extended completion queue'],
      test_rc_traffic_cq_ex: ['rxe', 'RC traffic on an extended completion queue'],
      test_xrc_traffic_cq_ex: ['none', 'XRC traffic on an extended completion queue'],
    },
    CQEXAPITest: {
      test_create_cq_ex: ['both', 'an extended queue with each of the completion fields'],
      test_create_cq_ex_bad_flow: ['rxe', 'the extended call refuses too many entries and an unknown vector'],
    },
  },
  test_srq: {
    SrqTestCase: {
      test_rc_srq_traffic: ['newer', 'two queue pairs take their receives from one SRQ'],
      test_resize_srq: ['newer', 'an SRQ grows'],
      test_modify_srq_limit: ['newer', 'the limit of an SRQ is set, and its event comes'],
    },
  },
  test_qp: {
    QPTest: {
      test_create_rc_qp_no_attr: ['both', 'an RC queue pair is in RESET when it is made'],
      test_create_uc_qp_no_attr: ['rxe', 'a UC queue pair is in RESET when it is made'],
      test_create_ud_qp_no_attr: ['rxe', 'a UD queue pair is in RESET when it is made'],
      test_create_raw_qp_no_attr: ['none', 'a raw packet queue pair is made'],
      test_create_rc_qp_with_attr: ['both', 'an RC queue pair is taken to INIT'],
      test_create_uc_qp_with_attr: ['rxe', 'a UC queue pair is taken to INIT'],
      test_create_ud_qp_with_attr: ['rxe', 'a UD queue pair is taken to RTS'],
      test_create_raw_qp_with_attr: ['none', 'a raw packet queue pair is taken to RTS'],
      test_create_rc_qp_ex_no_attr: ['both', 'RC by ibv_create_qp_ex, in RESET'],
      test_create_uc_qp_ex_no_attr: ['rxe', 'UC by ibv_create_qp_ex, in RESET'],
      test_create_ud_qp_ex_no_attr: ['rxe', 'UD by ibv_create_qp_ex, in RESET'],
      test_create_raw_qp_ex_no_attr: ['none', 'raw packet by ibv_create_qp_ex'],
      test_create_rc_qp_ex_with_attr: ['both', 'RC by ibv_create_qp_ex, taken to INIT'],
      test_create_uc_qp_ex_with_attr: ['rxe', 'UC by ibv_create_qp_ex, taken to INIT'],
      test_create_ud_qp_ex_with_attr: ['rxe', 'UD by ibv_create_qp_ex, taken to RTS'],
      test_create_raw_qp_ex_with_attr: ['none', 'raw packet by ibv_create_qp_ex, taken to RTS'],
      test_create_raw_qp_ex_with_illegal_caps_max_send_wr: ['rxe', 'too large max_send_wr is refused'],
      test_create_raw_qp_ex_with_illegal_caps_max_send_sge: ['rxe', 'too large max_send_sge is refused'],
      test_create_raw_qp_ex_with_illegal_caps_max_recv_sge: ['rxe', 'too large max_recv_sge is refused'],
      test_create_raw_qp_ex_with_illegal_caps_max_recv_wr: ['rxe', 'too large max_recv_wr is refused'],
      test_query_rc_qp: ['rxe', 'a query of a new RC queue pair'],
      test_query_uc_qp: ['rxe', 'a query of a new UC queue pair'],
      test_query_ud_qp: ['rxe', 'a query of a new UD queue pair'],
      test_query_raw_qp: ['none', 'a query of a new raw packet queue pair'],
      test_query_data_in_order: ['rxe', 'whether data is written in order (ibv_query_qp_data_in_order)'],
      test_modify_ud_qp: ['rxe', 'UD from RESET to RTS and back: Q_Key and PSN read back'],
      test_create_ud_qp_with_privileged_qkey: ['newer', 'a privileged Q_Key is set and read back'],
      test_raw_qp_rate_limit_modify: ['newer', 'the rate limit of a raw packet queue pair'],
    },
    RCQPTest: {
      test_modify_rc_qp_rd_atomic: ['newer', 'the READs in flight that were asked for are granted'],
    },
  },
  test_qpex: {
    QpExTestCase: {
      test_qp_ex_ud_send: ['rxe', 'UD SEND'],
      test_qp_ex_ud_zero_size: ['rxe', 'UD SEND of no bytes'],
      test_qp_ex_rc_send: ['rxe', 'RC SEND'],
      test_qp_ex_xrc_send: ['none', 'XRC SEND'],
      test_qp_ex_ud_send_imm: ['rxe', 'UD SEND with immediate data'],
      test_qp_ex_rc_send_imm: ['rxe', 'RC SEND with immediate data'],
      test_qp_ex_xrc_send_imm: ['none', 'XRC SEND with immediate data'],
      test_qp_ex_rc_flush: ['newer', 'FLUSH of a range and of a region'],
      test_qp_ex_rc_flush_type_violate: ['newer', 'FLUSH of a type that the region does not grant fails'],
      test_qp_ex_rc_atomic_write: ['rxe', 'ATOMIC WRITE of eight bytes'],
      test_qp_ex_rc_rdma_write: ['rxe', 'RDMA WRITE'],
      test_qp_ex_rc_rdma_write_imm: ['rxe', 'RDMA WRITE with immediate data'],
      test_qp_ex_rc_rdma_write_zero_size: ['rxe', 'RDMA WRITE of no bytes'],
      test_qp_ex_rc_rdma_read: ['rxe', 'RDMA READ'],
      test_qp_ex_rc_rdma_read_zero_size: ['rxe', 'RDMA READ of no bytes'],
      test_qp_ex_rc_atomic_cmp_swp: ['rxe', 'compare and swap'],
      test_qp_ex_rc_atomic_fetch_add: ['rxe', 'fetch and add'],
      test_qp_ex_rc_bind_mw: ['rxe', 'a window that is bound without remote write refuses a WRITE'],
      test_post_receive_qp_state_bad_flow: ['rxe', 'a receive on a queue pair in RESET is refused'],
      test_post_send_qp_state_bad_flow: ['rxe', 'a send on a queue pair in RESET is refused'],
      test_full_rq_bad_flow: ['rxe', 'one receive more than the queue holds is refused'],
      test_rq_with_larger_sgl_bad_flow: ['rxe', 'a receive with more SGEs than the queue takes is refused'],
    },
  },
  test_atomic: {
    AtomicTest: {
      test_atomic_cmp_and_swap: ['rxe', 'compare and swap, when it matches and when it does not'],
      test_atomic_fetch_and_add: ['rxe', 'fetch and add'],
      test_xrc_atomic_fetch_and_add: ['none', 'fetch and add over XRC'],
      test_xrc_atomic_cmp_and_swap: ['none', 'compare and swap over XRC'],
      test_atomic_invalid_qp_access: ['rxe', 'an atomic that the queue pair does not grant fails'],
      test_atomic_invalid_mr_access: ['rxe', 'an atomic that the region does not grant fails'],
      test_atomic_non_aligned_addr: ['rxe', 'an atomic at an address that is no multiple of 8 fails'],
      test_atomic_invalid_lkey: ['rxe', 'an atomic with a wrong local key fails'],
      test_atomic_invalid_rkey: ['rxe', 'an atomic with a wrong remote key fails'],
    },
  },
  test_mr: {
    MRTest: {
      test_mr_rereg_addr: ['none', 'a region moves to other memory; what was posted with the old one fails'],
      test_mrex_rereg_addr: ['newer', 'the same for a region of ibv_reg_mr_ex'],
      test_mr_rereg_atomic: ['newer', 'remote atomic access is taken away and given back'],
      test_mr_rereg_access: ['none', 'remote write access is given afterwards'],
      test_mrex_rereg_access: ['newer', 'the same for a region of ibv_reg_mr_ex'],
      test_mr_rereg_access_bad_flow: ['none', 'remote write access is taken away'],
      test_mr_rereg_pd: ['none', 'a region moves to another protection domain, and back'],
      test_reg_mr_bad_flags: ['both', 'remote write and atomic access without local write are refused'],
      test_reg_mrex_bad_flags: ['newer', 'the same for ibv_reg_mr_ex'],
      test_reg_mrex_inval_params: ['newer', 'ibv_reg_mr_ex with both an address and a descriptor'],
    },
    MWTest: {
      test_mw_type1: ['rxe', 'WRITE through a window of type 1'],
      test_mw_ex_type1: ['newer', 'the same over a region of ibv_reg_mr_ex'],
      test_invalidate_mw_type1: ['rxe', 'a window of type 1 that is bound to nothing refuses a WRITE'],
      test_mw_type2: ['rxe', 'WRITE through a window of type 2'],
      test_mw_type2_invalidate_local: ['rxe', 'LOCAL_INV ends a window of type 2'],
      test_mw_type2_invalidate_remote: ['rxe', "the peer's SEND_WITH_INV ends a window of type 2"],
      test_mw_type2_invalidate_dealloc: ['rxe', 'deallocation ends a window of type 2'],
      test_reg_mw_wrong_type: ['rxe', 'a window of an unknown type is refused'],
    },
    DeviceMemoryAPITest: {
      test_create_dm_mr: ['none', 'device memory is registered'],
      test_dm_bad_access: ['none', 'misaligned access to device memory is refused'],
      test_dm_bad_registration: ['none', 'more than the device memory is registered'],
      test_dm_export_dmabuf_fd: ['newer', 'device memory is exported as a dma-buf'],
    },
    DmaBufMRTest: {
      test_dmabuf_reg_mr: ['none', 'a dma-buf is registered'],
      test_dmabuf_dereg_mr: ['none', 'a dma-buf region is deregistered'],
      test_dmabuf_dereg_mr_twice: ['none', 'a dma-buf region is closed twice'],
      test_dmabuf_reg_mr_bad_flags: ['none', 'a dma-buf with illegal access flags is refused'],
      test_dmabuf_write: ['none', 'the memory of a dma-buf region is written'],
      test_dmabuf_read: ['none', 'the memory of a dma-buf region is read'],
      test_dmabuf_lkey: ['none', 'a dma-buf region has a local key'],
      test_dmabuf_rkey: ['none', 'a dma-buf region has a remote key'],
    },
    DmaBufTestCase: {
      test_dmabuf_rc_traffic: ['none', 'SEND and receive with dma-buf regions'],
      test_dmabuf_rdma_traffic: ['none', 'RDMA WRITE with dma-buf regions'],
    },
    DeviceMemoryTest: {
      test_dm_traffic: ['none', 'SEND and receive with device memory'],
      test_dm_remote_traffic: ['none', 'RDMA WRITE to device memory'],
      test_dm_remote_write_traffic_imm: ['newer', 'RDMA WRITE with immediate data to device memory'],
      test_dm_remote_read_traffic: ['newer', 'RDMA READ of device memory'],
      test_dm_atomic_fetch_add: ['newer', 'fetch and add on device memory'],
      test_dm_atomic_cmp_swp: ['newer', 'compare and swap on device memory'],
    },
  },
  test_relaxed_ordering: {
    RoTestCase: {
      test_ro_rc_traffic: ['rxe', 'RC traffic with relaxed ordering'],
      test_ro_ud_traffic: ['rxe', 'UD traffic with relaxed ordering'],
      test_ro_xrc_traffic: ['none', 'XRC traffic with relaxed ordering'],
      test_ro_mr_ex_traffic: ['newer', 'RDMA WRITE with a relaxed region of ibv_reg_mr_ex'],
    },
  },
  test_odp: {
    OdpTestCase: {
      test_odp_rc_traffic: ['rxe', 'RC traffic with on-demand regions'],
      test_odp_rc_mixed_mr: ['newer', 'one message of an on-demand and a pinned region'],
      test_odp_rc_srq_traffic: ['rxe', 'RC traffic with on-demand regions and an SRQ'],
      test_odp_qp_ex_rc_atomic_write: ['newer', 'ATOMIC WRITE to an on-demand region'],
      test_odp_qp_ex_rc_flush: ['newer', 'FLUSH of an on-demand region'],
      test_odp_rc_atomic_cmp_and_swp: ['rxe', 'compare and swap on an on-demand region'],
      test_odp_rc_atomic_fetch_and_add: ['rxe', 'fetch and add on an on-demand region'],
      test_odp_rc_rdma_read: ['rxe', 'RDMA READ of an on-demand region'],
      test_odp_rc_rdma_write: ['rxe', 'RDMA WRITE to an on-demand region'],
      test_odp_implicit_rc_traffic: ['none', 'RC traffic with a region of the whole address space'],
      test_odp_ud_traffic: ['rxe', 'UD SEND from an on-demand region'],
      test_odp_xrc_traffic: ['none', 'XRC traffic with on-demand regions'],
      test_odp_rc_huge_traffic: ['none', 'on-demand regions of huge pages'],
      test_odp_rc_huge_user_addr_traffic: ['none', "on-demand regions of the user's huge pages"],
      test_odp_sync_prefetch_rc_traffic: ['none', 'ibv_advise_mr fetches before the traffic'],
      test_odp_async_prefetch_rc_traffic: ['none', 'ibv_advise_mr fetches while the traffic starts'],
      test_odp_implicit_sync_prefetch_rc_traffic: ['none', 'prefetch in a region of the whole address space'],
      test_odp_implicit_async_prefetch_rc_traffic: ['none', 'the same, not waited for'],
      test_odp_prefetch_sync_no_page_fault_rc_traffic: ['none', 'prefetch of what is present only'],
      test_odp_prefetch_async_no_page_fault_rc_traffic: ['none', 'the same, not waited for'],
      test_mrex_odp_rc_traffic: ['newer', 'RC traffic with on-demand regions of ibv_reg_mr_ex'],
      test_mrex_odp_rc_huge_traffic: ['newer', 'the same with huge pages'],
      test_mrex_odp_implicit_rc_traffic: ['newer', 'the same with the whole address space'],
      test_mrex_odp_qp_ex_rc_flush: ['newer', 'FLUSH of an on-demand region of ibv_reg_mr_ex'],
    },
  },
  test_rdmacm: {
    CMTestCase: {
      test_rdmacm_sync_traffic: ['none', 'connect, messages both ways, disconnect'],
      test_rdmacm_async_traffic: ['none', 'the same with the option of the acknowledgement timeout'],
      test_rdmacm_async_reject_traffic: ['none', 'a rejection carries private data'],
      test_rdmacm_async_multicast_traffic: ['none', 'messages to a multicast group'],
      test_rdmacm_async_ex_multicast_traffic: ['none', 'the same by rdma_join_multicast_ex'],
      test_rdmacm_async_ex_leave_multicast_traffic: ['none', 'who has left the group hears nothing more'],
      test_rdmacm_async_traffic_external_qp: ['none', 'the application makes and moves the queue pair'],
      test_rdmacm_async_udp_traffic: ['none', 'datagrams in the port space UDP'],
      test_rdmacm_async_read: ['none', 'RDMA READ over a connection of rdma_cm'],
      test_rdmacm_async_write: ['none', 'RDMA WRITE over a connection of rdma_cm'],
      test_rdmacm_async_resolve_addrinfo: ['newer', 'address resolution by an event (rdma_resolve_addrinfo)'],
    },
  },
  test_parent_domain: {
    ParentDomainTrafficTest: {
      test_without_allocators_rc_traffic: ['none', 'a parent domain without allocators'],
      test_default_allocators_rc_traffic: ['none', 'allocators that leave it to the provider'],
      test_mem_align_rc_traffic: ['none', 'RC with memory from an allocator'],
      test_mem_align_ud_traffic: ['none', 'UD with memory from an allocator'],
      test_mem_align_srq_excq_rc_traffic: ['none', 'SRQ and extended queue with memory from an allocator'],
      test_huge_page_traffic: ['none', 'an allocator that gives huge pages'],
    },
  },
  test_shared_pd: {
    SharedPDTestCase: {
      test_imported_rc_ex_rdma_write: ['none', 'device, domain and region are imported by another context'],
    },
  },
  test_phc_timestamp: {
    TimeStampTest: {
      test_timestamp_free_running_rc_traffic: ['newer', 'completion timestamps of the device clock'],
      test_timestamp_real_time_rc_traffic: ['newer', 'completion timestamps in real time'],
    },
  },
  test_flow: {
    FlowTest: {
      test_eth_spec_flow_traffic: ['none', 'steering by Ethernet header'],
      test_ipv4_spec_flow_traffic: ['none', 'steering by IPv4 header'],
      test_ipv6_spec_flow_traffic: ['none', 'steering by IPv6 header'],
      test_udp_spec_flow_traffic: ['none', 'steering by UDP header'],
      test_tcp_spec_flow_traffic: ['none', 'steering by TCP header'],
    },
  },
  test_rss_traffic: {
    RSSTrafficTest: {
      test_rss_traffic: ['none', 'receive side scaling'],
    },
  },
  test_tag_matching: {
    TMTest: {
      test_tm_traffic: ['none', 'tagged messages find their receives'],
      test_tm_unexpected_tag: ['none', 'messages with a tag that nobody expects'],
      test_tm_no_tag: ['none', 'messages without a tag'],
      test_tm_rndv: ['none', 'rendezvous'],
    },
  },
  test_cuda_dmabuf: {
    DmabufCudaTest: {
      test_cuda_dmabuf_rdma_write_traffic: ['none', 'RDMA WRITE to GPU memory'],
      test_mrex_cuda_dmabuf_rdma_write_traffic: ['newer', 'the same with ibv_reg_mr_ex'],
      test_mrex_dmah_cuda_dmabuf_rdma_write_traffic: ['newer', 'the same with a DMA handle'],
    },
  },
  test_dmah: {
    DMAHandleTest: {
      test_dmah_with_mrex: ['newer', 'a region with a DMA handle'],
      test_dmah_invalid_ph: ['newer', 'a processing hint out of range'],
      test_dmah_persistent_memory: ['newer', 'a handle for persistent memory'],
      test_dmah_invalid_mem_type: ['newer', 'an unknown type of memory'],
      test_dmah_inval_cpu_id: ['newer', 'a CPU that is not there'],
      test_dmah_mrex_odp_bad_flow: ['newer', 'an on-demand region with a handle'],
    },
    DmaHandleTrafficTest: {
      test_dmah_mrex_rc_send: ['newer', 'SEND with a DMA handle'],
      test_dmah_mrex_rc_rdma_write: ['newer', 'RDMA WRITE with a DMA handle'],
      test_dmah_mrex_rc_atomic: ['newer', 'atomics with a DMA handle'],
    },
  },
  test_buf: {
    BufAPITest: {
      test_buf_export_dmabuf_fd_plain_pd: ['newer', 'plain memory has no dma-buf'],
      test_buf_export_dmabuf_fd_on_bounce_device: ['newer', 'the dma-buf of a bounced buffer'],
      test_multiple_mrs_one_buf_plain_pd_reg_buf_mr: ['newer', 'several regions of one buffer'],
      test_multiple_mrs_one_buf_plain_pd_reg_mr_ex: ['newer', 'the same with ibv_reg_mr_ex'],
      test_multiple_mrs_one_buf_cc_pd_reg_buf_mr: ['newer', 'the same in a confidential domain'],
      test_buf_reg_wrong_allocating_pd_fails_plain_pd: ['newer', 'a buffer of another domain'],
      test_buf_reg_wrong_allocating_pd_fails_cc_pd: ['newer', 'the same in a confidential domain'],
      test_buf_reg_length_exceeds_buffer_fails_plain_pd: ['newer', 'more than the buffer'],
      test_buf_reg_length_exceeds_buffer_fails_cc_pd: ['newer', 'the same in a confidential domain'],
      test_buf_reg_offset_length_exceeds_buffer_fails_plain_pd: ['newer', 'a range past the buffer'],
      test_buf_reg_offset_length_exceeds_buffer_fails_cc_pd: ['newer', 'the same in a confidential domain'],
      test_plain_mr_rejected_on_bounce_device: ['newer', 'plain memory on a device that bounces'],
    },
    BufTrafficTest: {
      test_buf_rc_send_cc_pd_reg_buf_mr: ['newer', 'SEND from a buffer'],
      test_buf_rc_send_large_msg_cc_pd_reg_buf_mr: ['newer', 'SEND of several pages'],
      test_buf_rc_send_mr_subrange_cc_pd_reg_buf_mr: ['newer', 'SEND from a part of a buffer'],
      test_buf_rc_rdma_write_imm_cc_pd_reg_buf_mr: ['newer', 'RDMA WRITE with immediate data'],
      test_buf_rc_rdma_read_cc_pd_reg_buf_mr: ['newer', 'RDMA READ'],
      test_buf_rc_atomic_fetch_add_cc_pd_reg_buf_mr: ['newer', 'fetch and add'],
      test_buf_ud_send_cc_pd_reg_buf_mr: ['newer', 'UD SEND'],
      test_buf_rc_send_plain_pd_reg_buf_mr: ['newer', 'SEND in a plain domain'],
      test_buf_rc_send_cc_pd_reg_mr_ex: ['newer', 'SEND, registered with ibv_reg_mr_ex'],
    },
  },
  beyond: {
    Completions: {
      lost_wakeup: ['ours', 'no wake-up is lost when completions arrive while the queue is armed'],
      acks_at_destroy: ['ours', 'a queue that is closed with unacknowledged events does not hang'],
      whole_batches: ['ours', 'a burst larger than one batch is delivered whole and in order'],
    },
    Posting: {
      partial_post: ['ours', 'a list with a bad work request: which one, how many are on their way'],
      send_queue_full: ['ours', 'a full send queue is told before the call, and takes work again'],
      unsignalled: ['ours', 'unsignalled work is retired by the next signalled one'],
    },
    Connections: {
      disconnect_mid_flight: ['ours', 'a disconnect settles all work in flight on both sides'],
      close_in_flight: ['ours', 'closing queue, domain or device settles all work in flight'],
      migrate_id: ['ours', 'an id moves to another event channel and goes on'],
      private_data_limits: ['ours', 'private data that does not fit is refused, not cut'],
      private_data_intact: ['ours', 'private data of the full length arrives both ways'],
    },
    Memory: {
      collected_buffer: ['ours', 'memory of work in flight outlives its JavaScript objects'],
      closed_region: ['ours', 'a region that is closed in flight lasts until the work completes'],
      detached_buffer: ['ours', 'a buffer that was transferred away keeps its pages'],
    },
    Processes: {
      child_process: ['ours', 'child processes while memory is registered and traffic flows'],
      worker_threads: ['ours', 'a worker with devices of its own, terminated under traffic'],
    },
  },
} as const satisfies Record<string, Record<string, Record<string, Case>>>;
