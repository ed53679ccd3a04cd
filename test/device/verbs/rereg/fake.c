/*
 * ibv_rereg_mr(3) for tests: rdma-core 44 has it for no soft device. Loaded by LD_PRELOAD in front of libibverbs.
 *
 * FAKE_REREG is what it answers. It changes the region where the manual page says that the region changes, by a
 * registration of its own that takes the place of the old one: new memory, new keys, another protection domain.
 * FAKE_REREG_MS is how long it takes.
 */
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <unistd.h>

int ibv_rereg_mr(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length, int access)
{
	const int answer = atoi(getenv("FAKE_REREG"));

	usleep(1000 * (useconds_t)atoi(getenv("FAKE_REREG_MS")));
	if (answer == 0 || answer == IBV_REREG_MR_ERR_DO_FORK_OLD) {
		const int moves = flags & IBV_REREG_MR_CHANGE_TRANSLATION;
		struct ibv_mr *fresh, old = *mr;

		if (!(flags & IBV_REREG_MR_CHANGE_ACCESS))
			access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
		fresh = (ibv_reg_mr)(flags & IBV_REREG_MR_CHANGE_PD ? pd : mr->pd, moves ? addr : mr->addr,
				     moves ? length : mr->length, access);
		if (fresh == NULL)
			return IBV_REREG_MR_ERR_CMD;
		*mr = *fresh;
		*fresh = old;
		ibv_dereg_mr(fresh);
	}
	errno = EIO;
	return answer;
}
