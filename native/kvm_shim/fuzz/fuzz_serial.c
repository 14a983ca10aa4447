/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port and its peers. */
#include "harness.h"
#include "peer.h"

enum { TARGET_PAUSE = PEER_TARGET, TARGET_RESUME = PEER_TARGET_2 };

static void act(void *opaque, const struct fuzz_record *record)
{
    struct peer *peer = opaque;

    switch (record->action) {
    case TARGET_PAUSE:
        peer->device->ops->pause(peer->device, UINT64_MAX);
        break;
    case TARGET_RESUME:
        peer->device->ops->resume(peer->device);
        break;
    default:
        peer_act(peer, record);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kvmshim_vm vm = {0};
    struct peer peer = {.attach = kvmshim_serial_attach, .fd = -1};
    kvmshim_counter entries[8];
    struct counters counters = {.entries = entries, .capacity = 8};

    fuzz_begin(&vm);
    FUZZ_CHECK(kvmshim_serial_create(&vm, 0x3f8, 4, &peer.device, NULL) == 0);
    fuzz_play(&vm, data, size, act, &peer);
    peer.device->ops->counters(peer.device, &counters);
    FUZZ_CHECK(counters.count <= counters.capacity);
    fuzz_end(&vm);
    peer_hang_up(&peer);
    return 0;
}
