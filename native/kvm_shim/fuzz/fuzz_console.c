/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio console and its peers. */
#include "peer.h"
#include "virtio.h"

enum { TARGET_RESIZE = PEER_TARGET };

static void act(void *opaque, const struct fuzz_record *record)
{
    struct peer *peer = opaque;

    if (record->action == TARGET_RESIZE)
        FUZZ_CHECK(kvmshim_console_resize(peer->device, record->data[0], record->data[1], NULL) ==
                   0);
    else
        peer_act(peer, record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kvmshim_vm vm = {0};
    struct peer peer = {.attach = kvmshim_console_attach, .fd = -1};
    kvmshim_place place;
    kvmshim_counter entries[16];
    struct counters counters = {.entries = entries, .capacity = 16};

    fuzz_virtio_begin(&vm);
    place = fuzz_place(&vm, 1);
    FUZZ_CHECK(kvmshim_console_create(&vm, &place, &peer.device, NULL) == 0);
    /* Half of the inputs begin where a driver has done its work. */
    if (size && data[0] & 1)
        fuzz_virtio_ready(&vm, peer.device, UINT64_MAX);
    if (size)
        fuzz_virtio_play(&vm, peer.device, data + 1, size - 1, act, &peer);
    peer.device->ops->counters(peer.device, &counters);
    FUZZ_CHECK(counters.count <= counters.capacity);
    fuzz_end(&vm);
    peer_hang_up(&peer);
    return 0;
}
