/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A registers (National Semiconductor PC16550D, section 8).
 *
 * The line is infinitely fast: a byte written leaves the transmitter at once for a ring that
 * the I/O thread empties, so THRE and TEMT are clear only while that ring is full and a peer
 * is there to wait for. Likewise the receiver's timeout of four characters is always over, so
 * a byte below the trigger level interrupts at once.
 *
 * OUT2 does not gate the interrupt: that is the wiring of a PC's card, which no guest turns
 * off, and not the chip's.
 */
#include "serial.h"

enum {
    IIR_FIFOS_ENABLED = 0xc0,
    LSR_FIFO_ERROR = 0x80,
    MSR_LINES = UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS, /* a peer that is always ready */
};

/* ---- status and interrupts ---------------------------------------------- */

static bool serial_fifos(const struct serial *serial)
{
    return serial->fcr & UART_FCR_ENABLE_FIFO;
}

static bool serial_loops(const struct serial *serial)
{
    return serial->mcr & UART_MCR_LOOP;
}

static uint32_t serial_rx_capacity(const struct serial *serial)
{
    return serial_fifos(serial) ? SERIAL_FIFO_SIZE : 1;
}

static uint32_t serial_rx_trigger(const struct serial *serial)
{
    static const uint8_t levels[] = {1, 4, 8, 14};

    return serial_fifos(serial) ? levels[serial->fcr >> 6] : 1;
}

static bool serial_can_transmit(const struct serial *serial)
{
    return serial_loops(serial) || line_room(&serial->line) > 0;
}

static uint8_t serial_lsr(const struct serial *serial)
{
    uint8_t lsr = 0;

    if (serial->overrun)
        lsr |= UART_LSR_OE;
    if (serial->rx_count)
        lsr |= UART_LSR_DR | serial->rx[serial->rx_head].errors;
    if (serial->thre)
        lsr |= UART_LSR_THRE | UART_LSR_TEMT;
    for (uint32_t i = 0; serial_fifos(serial) && i < serial->rx_count; i++)
        if (serial->rx[(serial->rx_head + i) % SERIAL_FIFO_SIZE].errors)
            lsr |= LSR_FIFO_ERROR;
    return lsr;
}

/* The highest of the interrupts that are enabled and pending (PC16550D, table III). */
static uint8_t serial_iir(const struct serial *serial)
{
    if ((serial->ier & UART_IER_RLSI) && (serial_lsr(serial) & UART_LSR_BRK_ERROR_BITS))
        return UART_IIR_RLSI;
    if ((serial->ier & UART_IER_RDI) && serial->rx_count >= serial_rx_trigger(serial))
        return UART_IIR_RDI;
    if ((serial->ier & UART_IER_RDI) && serial->rx_count > 0)
        return UART_IIR_RX_TIMEOUT;
    if ((serial->ier & UART_IER_THRI) && serial->thre_pending)
        return UART_IIR_THRI;
    if ((serial->ier & UART_IER_MSI) && serial->modem_delta)
        return UART_IIR_MSI;
    return UART_IIR_NO_INT;
}

static void serial_update_irq(struct serial *serial)
{
    bool irq = serial_iir(serial) != UART_IIR_NO_INT;

    if (irq != serial->irq) {
        serial->irq = irq;
        machine_irq(serial->device.vm, serial->gsi, irq);
    }
}

void serial_refresh(struct serial *serial)
{
    serial->thre = serial_can_transmit(serial);
    serial->irq = serial_iir(serial) != UART_IIR_NO_INT;
    machine_irq(serial->device.vm, serial->gsi, serial->irq);
}

void serial_update(struct serial *serial)
{
    bool thre = serial_can_transmit(serial);

    if (thre && !serial->thre)
        serial->thre_pending = true;
    serial->thre = thre;
    serial_update_irq(serial);
    /* Only when all was read: more room for fewer wake-ups, and until then the guest has a
     * reason to read on. */
    if (serial->line.input_waits && serial->rx_count == 0 && serial_rx_room(serial)) {
        serial->line.input_waits = false;
        line_kick(&serial->line);
    }
}

/* ---- data ----------------------------------------------------------------- */

uint32_t serial_rx_room(const struct serial *serial)
{
    return serial_loops(serial) ? 0 : serial_rx_capacity(serial) - serial->rx_count;
}

static void serial_rx_push(struct serial *serial, uint8_t byte, uint8_t errors)
{
    uint32_t capacity = serial_rx_capacity(serial);

    if (serial->rx_count == capacity) {
        serial->overrun = true;
        serial->overruns++;
        if (capacity > 1) /* a full FIFO keeps what it has, the single register does not */
            return;
        serial->rx_count = 0;
    }
    serial->rx[(serial->rx_head + serial->rx_count++) % SERIAL_FIFO_SIZE] = (struct serial_rx){
        .byte = byte,
        .errors = errors,
    };
}

void serial_receive(struct serial *serial, uint8_t byte)
{
    serial_rx_push(serial, byte, 0);
}

static uint8_t serial_rx_pop(struct serial *serial)
{
    uint8_t byte = serial->rx[serial->rx_head].byte;

    if (serial->rx_count == 0)
        return 0;
    serial->rx_head = (serial->rx_head + 1) % SERIAL_FIFO_SIZE;
    serial->rx_count--;
    return byte;
}

static void serial_tx_push(struct serial *serial, uint8_t byte)
{
    struct line *line = &serial->line;

    if (line_put(line, &byte, 1) == 0)
        line->dropped++; /* the guest did not heed THRE; what it sent before comes first */
    else if (line->ring.count == 1 && line->taker)
        serial_io_arm(serial);
}

static void serial_transmit(struct serial *serial, uint8_t byte)
{
    /* Loading the register takes the request back and the pin down, if only for a moment: an
     * edge-triggered IOAPIC pin must see the next request rise. */
    serial->thre = false;
    serial->thre_pending = false;
    serial_update_irq(serial);
    if (serial_loops(serial))
        serial_rx_push(serial, byte, 0);
    else
        serial_tx_push(serial, byte);
}

/* ---- registers ------------------------------------------------------------ */

/* The modem lines as MSR shows them; in loopback, the chip's own outputs. */
static uint8_t serial_modem_lines(const struct serial *serial)
{
    uint8_t lines = 0;

    if (!serial_loops(serial))
        return MSR_LINES;
    if (serial->mcr & UART_MCR_RTS)
        lines |= UART_MSR_CTS;
    if (serial->mcr & UART_MCR_DTR)
        lines |= UART_MSR_DSR;
    if (serial->mcr & UART_MCR_OUT1)
        lines |= UART_MSR_RI;
    if (serial->mcr & UART_MCR_OUT2)
        lines |= UART_MSR_DCD;
    return lines;
}

static void serial_write_mcr(struct serial *serial, uint8_t value)
{
    uint8_t was = serial_modem_lines(serial);
    uint8_t changed;

    serial->mcr = value & SERIAL_MCR_BITS;
    changed = was ^ serial_modem_lines(serial);
    serial->modem_delta |= changed >> 4 & (UART_MSR_DCTS | UART_MSR_DDSR | UART_MSR_DDCD);
    if (changed & was & UART_MSR_RI) /* only the ring's end counts */
        serial->modem_delta |= UART_MSR_TERI;
}

static void serial_write_lcr(struct serial *serial, uint8_t value)
{
    uint8_t set = value & (uint8_t)~serial->lcr;

    serial->lcr = value;
    if ((set & UART_LCR_SBC) && serial_loops(serial))
        serial_rx_push(serial, 0, UART_LSR_BI);
}

static void serial_write_fcr(struct serial *serial, uint8_t value)
{
    bool toggles = (value ^ serial->fcr) & UART_FCR_ENABLE_FIFO;

    /* CLEAR_XMIT finds a FIFO that is always empty: what is in the ring has left the chip. */
    if (toggles || (value & (UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR)) ==
                       (UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR))
        serial->rx_count = 0;
    serial->fcr = value & UART_FCR_ENABLE_FIFO ? value & SERIAL_FCR_BITS : 0;
}

static void serial_write_ier(struct serial *serial, uint8_t value)
{
    uint8_t enabled = value & (uint8_t)~serial->ier;

    serial->ier = value & SERIAL_IER_BITS;
    if ((enabled & UART_IER_THRI) && serial->thre)
        serial->thre_pending = true;
}

static uint8_t serial_read_iir(struct serial *serial)
{
    uint8_t iir = serial_iir(serial);

    if (iir == UART_IIR_THRI)
        serial->thre_pending = false;
    return iir | (serial_fifos(serial) ? IIR_FIFOS_ENABLED : 0);
}

static uint8_t serial_read_lsr(struct serial *serial)
{
    uint8_t lsr = serial_lsr(serial);

    serial->overrun = false;
    if (serial->rx_count)
        serial->rx[serial->rx_head].errors = 0;
    return lsr;
}

static uint8_t serial_read_msr(struct serial *serial)
{
    uint8_t msr = serial_modem_lines(serial) | serial->modem_delta;

    serial->modem_delta = 0;
    return msr;
}

static uint8_t serial_read_register(struct serial *serial, uint64_t reg)
{
    bool divisor = serial->lcr & UART_LCR_DLAB;

    switch (reg) {
    case UART_RX:
        return divisor ? serial->dll : serial_rx_pop(serial);
    case UART_IER:
        return divisor ? serial->dlm : serial->ier;
    case UART_IIR:
        return serial_read_iir(serial);
    case UART_LCR:
        return serial->lcr;
    case UART_MCR:
        return serial->mcr;
    case UART_LSR:
        return serial_read_lsr(serial);
    case UART_MSR:
        return serial_read_msr(serial);
    default:
        return serial->scr;
    }
}

static void serial_write_register(struct serial *serial, uint64_t reg, uint8_t value)
{
    bool divisor = serial->lcr & UART_LCR_DLAB;

    switch (reg) {
    case UART_TX:
        if (divisor)
            serial->dll = value;
        else
            serial_transmit(serial, value);
        break;
    case UART_IER:
        if (divisor)
            serial->dlm = value;
        else
            serial_write_ier(serial, value);
        break;
    case UART_FCR:
        serial_write_fcr(serial, value);
        break;
    case UART_LCR:
        serial_write_lcr(serial, value);
        break;
    case UART_MCR:
        serial_write_mcr(serial, value);
        break;
    case UART_SCR:
        serial->scr = value;
        break;
    default: /* LSR and MSR: factory testing only */
        break;
    }
}

/* A wider access is that many byte cycles, as on the ISA bus. */
static void serial_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    struct serial *serial = opaque;

    pthread_mutex_lock(&serial->line.lock);
    for (uint32_t i = 0; i < size; i++) {
        data[i] = serial_read_register(serial, offset + i);
        serial_update(serial);
    }
    pthread_mutex_unlock(&serial->line.lock);
}

static void serial_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct serial *serial = opaque;

    pthread_mutex_lock(&serial->line.lock);
    for (uint32_t i = 0; i < size; i++) {
        serial_write_register(serial, offset + i, data[i]);
        serial_update(serial);
    }
    pthread_mutex_unlock(&serial->line.lock);
}

const struct bus_ops serial_bus_ops = {.read = serial_read, .write = serial_write};
