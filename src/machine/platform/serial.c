/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/serial.h"

#include "machine/layout.h"

enum {
	DATA = 0,             /* divisor, low, with LCR_DLAB */
	INTERRUPT_ENABLE = 1, /* divisor, high */
	INTERRUPT_ID = 2,     /* written: FIFO control */
	LINE_CONTROL = 3,
	MODEM_CONTROL = 4,
	LINE_STATUS = 5,
	MODEM_STATUS = 6,
	SCRATCH = 7,
};

#define IER_RECEIVE  0x01
#define IER_TRANSMIT 0x02
#define IER_ALL      0x0f
#define IIR_NONE     0x01
#define IIR_TRANSMIT 0x02
#define IIR_RECEIVE  0x04
#define IIR_FIFO     0xc0
#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define LCR_DLAB     0x80
#define MCR_DTR      0x01
#define MCR_RTS      0x02
#define MCR_OUT1     0x04
#define MCR_OUT2     0x08
#define MCR_LOOP     0x10
#define MCR_ALL      0x1f
#define LSR_READY    0x01
#define LSR_EMPTY    0x60 /* transmitter and its holding register */
#define MSR_CTS      0x10
#define MSR_DSR      0x20
#define MSR_RING     0x40
#define MSR_CARRIER  0x80

/* A driver that finds the transmitter empty fills the FIFO without another look. */
_Static_assert(SERIAL_FIFO <= CONSOLE_ROOM, "an empty transmitter takes a whole FIFO");

static uint8_t interrupt_id(const struct serial *serial)
{
	uint8_t fifo = serial->fifo_control & FCR_ENABLE ? IIR_FIFO : 0;

	if (serial->interrupt_enable & IER_RECEIVE && serial->head != serial->tail)
		return fifo | IIR_RECEIVE;
	if (serial->interrupt_enable & IER_TRANSMIT && serial->transmit_pending)
		return fifo | IIR_TRANSMIT;
	return fifo | IIR_NONE;
}

static void update_line(struct serial *serial)
{
	bool wanted = !(interrupt_id(serial) & IIR_NONE);

	if (wanted == serial->line)
		return;
	serial->line = wanted;
	kvm_irq_line(serial->vm, LAYOUT_GSI_SERIAL, wanted);
}

static unsigned depth(const struct serial *serial)
{
	return serial->fifo_control & FCR_ENABLE ? SERIAL_FIFO : 1;
}

static bool push(struct serial *serial, uint8_t byte)
{
	if (serial->head - serial->tail >= depth(serial))
		return false;
	serial->fifo[serial->head++ % SERIAL_FIFO] = byte;
	return true;
}

static uint8_t pop(struct serial *serial)
{
	uint8_t byte;

	if (serial->head == serial->tail)
		return 0;
	byte = serial->fifo[serial->tail++ % SERIAL_FIFO];
	if (serial->head == serial->tail)
		console_resume(serial->console);
	return byte;
}

/* In loop-back mode the modem's outputs are its inputs. */
static uint8_t modem_status(const struct serial *serial)
{
	uint8_t out = serial->modem_control;

	if (!(out & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_CARRIER;
	return (out & MCR_RTS ? MSR_CTS : 0) | (out & MCR_DTR ? MSR_DSR : 0) |
	       (out & MCR_OUT1 ? MSR_RING : 0) | (out & MCR_OUT2 ? MSR_CARRIER : 0);
}

static uint8_t read_register(struct serial *serial, unsigned offset)
{
	bool divisor = serial->line_control & LCR_DLAB;
	uint8_t id;

	switch (offset) {
	case DATA:
		return divisor ? serial->divisor : pop(serial);
	case INTERRUPT_ENABLE:
		return divisor ? serial->divisor >> 8 : serial->interrupt_enable;
	case INTERRUPT_ID:
		id = interrupt_id(serial);
		if ((id & 0xf) == IIR_TRANSMIT)
			serial->transmit_pending = false;
		return id;
	case LINE_CONTROL:
		return serial->line_control;
	case MODEM_CONTROL:
		return serial->modem_control;
	case LINE_STATUS:
		return (serial->head != serial->tail ? LSR_READY : 0) |
		       (console_has_room(serial->console) ? LSR_EMPTY : 0);
	case MODEM_STATUS:
		return modem_status(serial);
	default:
		return serial->scratch;
	}
}

static void transmit(struct serial *serial, uint8_t byte)
{
	if (serial->modem_control & MCR_LOOP)
		push(serial, byte);
	else
		console_put(serial->console, byte);
	/* When the buffer is full serial_room() tells the guest later. */
	serial->transmit_pending = console_has_room(serial->console);
}

static void write_uart(struct serial *serial, unsigned offset, uint8_t value)
{
	bool divisor = serial->line_control & LCR_DLAB;

	switch (offset) {
	case DATA:
		if (divisor)
			serial->divisor = (serial->divisor & 0xff00) | value;
		else
			transmit(serial, value);
		break;
	case INTERRUPT_ENABLE:
		if (divisor) {
			serial->divisor = (serial->divisor & 0x00ff) | value << 8;
			break;
		}
		/* Switching the interrupt on with an empty transmitter raises it. */
		if (value & ~serial->interrupt_enable & IER_TRANSMIT)
			serial->transmit_pending = console_has_room(serial->console);
		serial->interrupt_enable = value & IER_ALL;
		break;
	case INTERRUPT_ID:
		if (value & FCR_CLEAR_RX || (value ^ serial->fifo_control) & FCR_ENABLE) {
			serial->tail = serial->head;
			console_resume(serial->console);
		}
		serial->fifo_control = value;
		break;
	case LINE_CONTROL:
		serial->line_control = value;
		break;
	case MODEM_CONTROL:
		serial->modem_control = value & MCR_ALL;
		break;
	case SCRATCH:
		serial->scratch = value;
		break;
	}
}

static uint64_t serial_read(void *opaque, uint64_t offset, unsigned size)
{
	struct serial *serial = opaque;
	uint8_t value;

	(void)size;
	pthread_mutex_lock(&serial->lock);
	value = read_register(serial, offset);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return value;
}

static void serial_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct serial *serial = opaque;

	(void)size;
	pthread_mutex_lock(&serial->lock);
	write_uart(serial, offset, value);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
}

static const struct space_ops serial_ops = { serial_read, serial_write };

int serial_init(
	struct serial *serial, struct space *pio, struct kvm_vm *vm, struct console *console)
{
	serial->vm = vm;
	serial->console = console;
	serial->divisor = 12; /* 9600 baud */
	pthread_mutex_init(&serial->lock, NULL);
	return space_add(pio, SERIAL_PORT, SERIAL_PORTS, &serial_ops, serial);
}

bool serial_receive(struct serial *serial, uint8_t byte)
{
	bool taken;

	pthread_mutex_lock(&serial->lock);
	taken = push(serial, byte);
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return taken;
}

void serial_room(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	serial->transmit_pending = true;
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
}
