/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>

enum {
    ECAM = 0xe8000000,
    BAR = 0xc0000000,
    BAR_SIZE = 0x80000,
    NOTIFY = 0x6000,
    MSIX_TABLE = 0x8000,
    MSIX_FLAGS = 0x40 + PCI_MSIX_FLAGS,
    RING_AVAIL = 0x100,
    RING_USED = 0x200,
};

struct play {
    kvmshim_vm *vm;
    struct virtio_device *device;
    uint16_t next_desc[FUZZ_QUEUES], next_avail[FUZZ_QUEUES];
    void (*target)(void *opaque, const struct fuzz_record *record);
    void *opaque;
};

/* ---- a driver --------------------------------------------------------------- */

static void config_write(kvmshim_vm *vm, const struct virtio_device *device, uint32_t reg,
                         uint32_t value, uint32_t size)
{
    fuzz_bus_write(vm, KVMSHIM_SPACE_MMIO, ECAM + ((uint64_t)device->devfn << 12) + reg, value,
                   size);
}

static void bar_write(kvmshim_vm *vm, const struct virtio_device *device, uint32_t offset,
                      uint64_t value, uint32_t size)
{
    fuzz_bus_write(vm, KVMSHIM_SPACE_MMIO, device->bar.base + offset, value, size);
}

static void write64(kvmshim_vm *vm, const struct virtio_device *device, uint32_t offset,
                    uint64_t value)
{
    bar_write(vm, device, offset, (uint32_t)value, 4);
    bar_write(vm, device, offset + 4, value >> 32, 4);
}

static void set_up_queue(kvmshim_vm *vm, const struct virtio_device *device, uint16_t index)
{
    uint16_t size = device->queues[index].size_max;

    bar_write(vm, device, VIRTIO_PCI_COMMON_Q_SELECT, index, 2);
    bar_write(vm, device, VIRTIO_PCI_COMMON_Q_SIZE, size < FUZZ_QUEUE_SIZE ? size : FUZZ_QUEUE_SIZE,
              2);
    bar_write(vm, device, VIRTIO_PCI_COMMON_Q_MSIX, index + 1u, 2);
    write64(vm, device, VIRTIO_PCI_COMMON_Q_DESCLO, FUZZ_QUEUE(index));
    write64(vm, device, VIRTIO_PCI_COMMON_Q_AVAILLO, FUZZ_QUEUE(index) + RING_AVAIL);
    write64(vm, device, VIRTIO_PCI_COMMON_Q_USEDLO, FUZZ_QUEUE(index) + RING_USED);
    bar_write(vm, device, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
}

void fuzz_virtio_ready(kvmshim_vm *vm, kvmshim_device *base, uint64_t features)
{
    const struct virtio_device *device = (const struct virtio_device *)base;
    uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

    features = (features & device->offered) | UINT64_C(1) << VIRTIO_F_VERSION_1;
    config_write(vm, device, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    config_write(vm, device, MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
    for (uint32_t i = 0; i < device->msix.count; i++)
        bar_write(vm, device, MSIX_TABLE + i * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL,
                  0, 4);
    bar_write(vm, device, VIRTIO_PCI_COMMON_STATUS, status, 1);
    for (uint32_t i = 0; i < 2; i++) {
        bar_write(vm, device, VIRTIO_PCI_COMMON_GFSELECT, i, 4);
        bar_write(vm, device, VIRTIO_PCI_COMMON_GF, (uint32_t)(features >> 32 * i), 4);
    }
    status |= VIRTIO_CONFIG_S_FEATURES_OK;
    bar_write(vm, device, VIRTIO_PCI_COMMON_STATUS, status, 1);
    for (uint16_t i = 0; i < device->queue_count && i < FUZZ_QUEUES; i++)
        set_up_queue(vm, device, i);
    bar_write(vm, device, VIRTIO_PCI_COMMON_STATUS, status | VIRTIO_CONFIG_S_DRIVER_OK, 1);
    FUZZ_CHECK(device->running);
}

/* ---- records ------------------------------------------------------------------- */

static void notify(const struct play *play, uint32_t queue)
{
    if (play->device->bar.mapped)
        bar_write(play->vm, play->device, NOTIFY + 4 * queue, queue, 2);
}

static void add_chain(struct play *play, uint32_t queue, const struct fuzz_record *record)
{
    uint16_t head = play->next_desc[queue] % FUZZ_QUEUE_SIZE;
    uint16_t index = (uint16_t)(play->next_avail[queue] + 1);
    uint32_t count = 0;

    while (count < 4 && record->data[2 * count + 1] % 128 != 0)
        count++;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t at = play->next_desc[queue]++ % FUZZ_QUEUE_SIZE;
        uint8_t length = record->data[2 * i + 1];
        const struct vring_desc desc = {
            .addr = FUZZ_BUFFERS + 256u * record->data[2 * i],
            .len = (uint32_t)(length % 128) << record->offset % 16,
            .flags = (uint16_t)((length / 128 ? VRING_DESC_F_WRITE : 0) |
                                (i + 1 < count ? VRING_DESC_F_NEXT : 0)),
            .next = play->next_desc[queue] % FUZZ_QUEUE_SIZE,
        };

        fuzz_poke(play->vm, FUZZ_QUEUE(queue) + at * sizeof(desc), &desc, sizeof(desc));
    }
    fuzz_poke(play->vm,
              FUZZ_QUEUE(queue) + RING_AVAIL + 4 +
                  2u * (play->next_avail[queue] % FUZZ_QUEUE_SIZE),
              &head, sizeof(head));
    play->next_avail[queue] = index;
    fuzz_poke(play->vm, FUZZ_QUEUE(queue) + RING_AVAIL + 2, &index, sizeof(index));
    notify(play, queue);
}

static void act(void *opaque, const struct fuzz_record *record)
{
    struct play *play = opaque;
    uint32_t queues = play->device->queue_count < FUZZ_QUEUES ? play->device->queue_count
                                                              : FUZZ_QUEUES;

    switch (record->action) {
    case ACTION_RAM:
        fuzz_poke(play->vm, record->offset, record->data, sizeof(record->data));
        break;
    case ACTION_CHAIN:
        add_chain(play, record->region % queues, record);
        break;
    case ACTION_KICK:
        notify(play, record->region % queues);
        break;
    case ACTION_RUN:
        fuzz_run();
        break;
    default:
        if (record->action >= ACTION_TARGET && play->target)
            play->target(play->opaque, record);
    }
}

void fuzz_virtio_play(kvmshim_vm *vm, kvmshim_device *device, const uint8_t *input, size_t size,
                      void (*target)(void *opaque, const struct fuzz_record *record),
                      void *opaque)
{
    struct play play = {
        .vm = vm,
        .device = (struct virtio_device *)device,
        .target = target,
        .opaque = opaque,
    };

    fuzz_play(vm, input, size, act, &play);
    fuzz_run();
}

/* ---- the machine ---------------------------------------------------------------- */

/* While a device stands still, every chain that it took is back: none is lost, none is held. */
static void quiet(kvmshim_device *base)
{
    const struct virtio_device *device = (const struct virtio_device *)base;

    if (strncmp(base->ops->name, "virtio", strlen("virtio")) != 0)
        return;
    FUZZ_CHECK(!device->running);
    for (uint16_t i = 0; i < device->queue_count; i++)
        FUZZ_CHECK(device->queues[i].broken ||
                   device->queues[i].next_avail == device->queues[i].next_used);
}

void fuzz_virtio_begin(kvmshim_vm *vm)
{
    fuzz_begin(vm);
    fuzz_machine_begin(vm);
    vm->quiet = quiet;
    FUZZ_CHECK(kvmshim_pci_create(vm, ECAM, &vm->pci, NULL) == 0);
}

kvmshim_place fuzz_place(kvmshim_vm *vm, uint8_t slot)
{
    return (kvmshim_place){
        .pci = vm->pci,
        .id = "fuzzed",
        .slot = slot,
        .bar = BAR + (uint64_t)slot * BAR_SIZE,
    };
}
