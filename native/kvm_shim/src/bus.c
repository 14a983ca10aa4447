/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers take no lock. Each thread that may dispatch owns a bus_reader:
 *
 *     looking = 1; table = current; find; inside = region; looking = 0;
 *     region->ops(...); inside = NULL;
 *
 * A writer publishes a new table, waits until no reader is looking (a few instructions,
 * never a call), and may then free the old table: whoever looks now sees the new one, and
 * whoever found something in the old one has named it in `inside`. A remover goes on to
 * wait for the readers inside the region it took out, and for those only. Two vCPUs that
 * move BARs at the same time are both inside the PCI configuration region, wait for
 * nobody there, and so cannot wait for each other; nothing has to be reclaimed later.
 */
#include "bus_table.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "vcpu.h"
#include "vm.h"

#define PIO_LAST UINT64_C(0xffff)

int bus_init(struct bus *bus)
{
    int ret = pthread_mutex_init(&bus->lock, NULL);

    if (ret != 0)
        return -ret;
    ret = pthread_mutex_init(&bus->control_lock, NULL);
    if (ret != 0)
        pthread_mutex_destroy(&bus->lock);
    return -ret;
}

void bus_free(struct bus *bus)
{
    for (int space = 0; space < BUS_SPACES; space++) {
        struct bus_table *table = atomic_load(&bus->tables[space]);

        for (uint32_t i = 0; table != NULL && i < table->count; i++)
            free(table->ranges[i].region);
        free(table);
    }
    pthread_mutex_destroy(&bus->control_lock);
    pthread_mutex_destroy(&bus->lock);
}

/* The number of ranges whose base is at most `address`. */
static uint32_t ranges_up_to(const struct bus_table *table, uint64_t address)
{
    uint32_t low = 0;
    uint32_t high = table == NULL ? 0 : table->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (table->ranges[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A range that shares a byte with [address, last]; the highest of them. */
static const struct bus_range *find_overlap(const struct bus_table *table, uint64_t address,
                                            uint64_t last)
{
    uint32_t up_to = ranges_up_to(table, last);

    if (up_to == 0 || table->ranges[up_to - 1].last < address)
        return NULL;
    return &table->ranges[up_to - 1];
}

static bool dispatch_split(struct bus *bus, struct bus_reader *reader, int space,
                           uint64_t address, bool is_write, uint8_t *data, uint32_t size)
{
    uint32_t first = size > 4 ? 4 : size > 2 ? 2 : 1;
    bool claimed;

    claimed = bus_dispatch(bus, reader, space, address, is_write, data, first);
    claimed |= bus_dispatch(bus, reader, space, address + first, is_write, data + first,
                            size - first);
    return claimed;
}

bool bus_dispatch(struct bus *bus, struct bus_reader *reader, int space, uint64_t address,
                  bool is_write, uint8_t *data, uint32_t size)
{
    uint64_t last = address + (size - 1);
    const struct bus_range *range;
    struct bus_region *region = NULL;
    bool touched = false;
    uint64_t offset = 0;

    if (last < address)
        return false;
    /*
     * Both of these, and the writer's store of the table and its load of `looking`, are
     * sequentially consistent: either the writer sees this reader looking, or this reader
     * sees the writer's table.
     */
    atomic_store(&reader->looking, 1);
    range = find_overlap(atomic_load(&bus->tables[space]), address, last);
    if (range != NULL) {
        touched = true;
        if (range->base <= address && last <= range->last && (size & (size - 1)) == 0) {
            region = range->region;
            offset = address - range->base;
            atomic_store_explicit(&reader->inside, region, memory_order_relaxed);
        }
    }
    /* Release: who sees this reader no longer looking sees what it is inside. */
    atomic_store_explicit(&reader->looking, 0, memory_order_release);
    if (!touched)
        return false;
    if (region == NULL)
        return dispatch_split(bus, reader, space, address, is_write, data, size);
    if (is_write)
        region->ops->write(region->opaque, offset, data, size);
    else
        region->ops->read(region->opaque, offset, data, size);
    atomic_store_explicit(&reader->inside, NULL, memory_order_release);
    return true;
}

static struct bus_reader *reader_at(kvmshim_vm *vm, uint32_t index)
{
    return index == 0 ? &vm->bus.control : &vm->vcpus[index - 1]->reader;
}

static void back_off(uint32_t attempt)
{
    const struct timespec moment = {.tv_nsec = 50000};

    if (attempt < 64)
        sched_yield();
    else
        nanosleep(&moment, NULL);
}

/* Wait until nobody holds a table that was current before the caller published its own. */
static void wait_for_lookups(kvmshim_vm *vm)
{
    uint32_t readers = 1 + atomic_load(&vm->vcpu_count);

    for (uint32_t i = 0; i < readers; i++) {
        struct bus_reader *reader = reader_at(vm, i);

        for (uint32_t attempt = 0; atomic_load(&reader->looking) != 0; attempt++)
            back_off(attempt);
    }
}

/* Wait until no other thread is in the ops of a region that no table has any more. */
static void wait_for_region(kvmshim_vm *vm, const struct bus_region *region)
{
    uint32_t readers = 1 + atomic_load(&vm->vcpu_count);
    pthread_t self = pthread_self();

    for (uint32_t i = 0; i < readers; i++) {
        struct bus_reader *reader = reader_at(vm, i);

        if (pthread_equal(atomic_load(&reader->thread), self))
            continue;
        for (uint32_t attempt = 0; atomic_load(&reader->inside) == region; attempt++)
            back_off(attempt);
    }
}

static void publish(kvmshim_vm *vm, int space, struct bus_table *table)
{
    struct bus_table *old = atomic_exchange(&vm->bus.tables[space], table);

    wait_for_lookups(vm);
    free(old);
}

int bus_add(kvmshim_vm *vm, int space, uint64_t base, uint64_t size, const struct bus_ops *ops,
            void *opaque, kvmshim_error *err)
{
    const struct bus_table *old;
    struct bus_table *table = NULL;
    struct bus_region *region;
    uint64_t last = base + (size - 1);
    uint32_t count;
    uint32_t at;
    int ret = 0;

    if (space < 0 || space >= BUS_SPACES || size == 0 || last < base ||
        (space == KVMSHIM_SPACE_PIO && last > PIO_LAST))
        return error_set(err, -EINVAL, "bus %d region 0x%" PRIx64 "+0x%" PRIx64, space, base,
                         size);
    region = malloc(sizeof(*region));
    if (region == NULL)
        return error_set(err, -ENOMEM, "allocate a bus region");
    *region = (struct bus_region){.ops = ops, .opaque = opaque};

    pthread_mutex_lock(&vm->bus.lock);
    old = atomic_load(&vm->bus.tables[space]);
    if (find_overlap(old, base, last) != NULL) {
        ret = error_set(err, -EEXIST, "bus %d region 0x%" PRIx64 "+0x%" PRIx64 " is taken", space,
                        base, size);
        goto out;
    }
    count = old == NULL ? 0 : old->count;
    table = malloc(sizeof(*table) + (count + 1) * sizeof(table->ranges[0]));
    if (table == NULL) {
        ret = error_set(err, -ENOMEM, "allocate a bus table");
        goto out;
    }
    at = ranges_up_to(old, base);
    table->count = count + 1;
    if (at > 0)
        memcpy(table->ranges, old->ranges, at * sizeof(table->ranges[0]));
    table->ranges[at] = (struct bus_range){.base = base, .last = last, .region = region};
    if (at < count)
        memcpy(&table->ranges[at + 1], &old->ranges[at],
               (count - at) * sizeof(table->ranges[0]));
    publish(vm, space, table);
out:
    pthread_mutex_unlock(&vm->bus.lock);
    if (ret < 0)
        free(region);
    return ret;
}

/* Take the region that starts at `base` out of the table; NULL with *ret set if it fails. */
static struct bus_region *take_out(kvmshim_vm *vm, int space, uint64_t base, int *ret)
{
    const struct bus_table *old = atomic_load(&vm->bus.tables[space]);
    uint32_t up_to = ranges_up_to(old, base);
    struct bus_region *region;
    struct bus_table *table;
    uint32_t after;

    if (up_to == 0 || old->ranges[up_to - 1].base != base) {
        *ret = -ENOENT;
        return NULL;
    }
    region = old->ranges[up_to - 1].region;
    table = malloc(sizeof(*table) + (old->count - 1) * sizeof(table->ranges[0]));
    if (table == NULL) {
        *ret = -ENOMEM;
        return NULL;
    }
    after = old->count - up_to;
    table->count = old->count - 1;
    memcpy(table->ranges, old->ranges, (up_to - 1) * sizeof(table->ranges[0]));
    memcpy(&table->ranges[up_to - 1], &old->ranges[up_to], after * sizeof(table->ranges[0]));
    publish(vm, space, table);
    *ret = 0;
    return region;
}

int bus_remove(kvmshim_vm *vm, int space, uint64_t base, kvmshim_error *err)
{
    struct bus_region *region;
    int ret;

    if (space < 0 || space >= BUS_SPACES)
        return error_set(err, -EINVAL, "bus %d", space);
    pthread_mutex_lock(&vm->bus.lock);
    region = take_out(vm, space, base, &ret);
    pthread_mutex_unlock(&vm->bus.lock);
    if (region == NULL)
        return error_set(err, ret, "remove bus %d region at 0x%" PRIx64, space, base);
    /* Outside of the lock: an op that is still running may add or remove regions itself. */
    wait_for_region(vm, region);
    free(region);
    return 0;
}

int kvmshim_bus_access(kvmshim_vm *vm, int space, uint64_t address, int is_write, void *data,
                       uint32_t size, kvmshim_error *err)
{
    struct bus *bus = &vm->bus;
    bool claimed;

    if (space < 0 || space >= BUS_SPACES || size == 0 || size > 8 || (size & (size - 1)) != 0)
        return error_set(err, -EINVAL, "bus %d access of %u bytes", space, size);
    if (!is_write)
        memset(data, 0xff, size);
    pthread_mutex_lock(&bus->control_lock);
    atomic_store(&bus->control.thread, pthread_self());
    claimed = bus_dispatch(bus, &bus->control, space, address, is_write != 0, data, size);
    atomic_store(&bus->control.thread, 0);
    pthread_mutex_unlock(&bus->control_lock);
    return claimed ? 1 : 0;
}
