/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/events.h"

#include "machine/layout.h"

/* The bits of the register that an access touches, which may begin at any of its bytes. */
static uint32_t touched(uint64_t offset, unsigned size)
{
	return (uint32_t)((1ULL << 8 * size) - 1) << 8 * offset;
}

static uint64_t events_read(void *opaque, uint64_t offset, unsigned size)
{
	struct events *events = opaque;
	uint32_t mask = touched(offset, size);

	return (__atomic_fetch_and(&events->pending, ~mask, __ATOMIC_RELAXED) & mask) >> 8 * offset;
}

static void events_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct events *events = opaque;
	uint32_t slots = (uint32_t)(value << 8 * offset) & touched(offset, size) & ~EVENTS_BUTTON;

	if (slots)
		events->ejected(events->opaque, slots);
}

static const struct space_ops events_ops = { events_read, events_write };

int events_init(struct events *events, struct space *pio, struct kvm_vm *vm)
{
	events->vm = vm;
	pthread_mutex_init(&events->lock, NULL);
	return space_add(pio, EVENTS_PORT, EVENTS_PORTS, &events_ops, events);
}

/* The interrupt is an edge. */
void events_raise(struct events *events, uint32_t event)
{
	/* Of two at once, one would find the line up, and be without an edge. */
	pthread_mutex_lock(&events->lock);
	__atomic_fetch_or(&events->pending, event, __ATOMIC_RELAXED);
	kvm_irq_line(events->vm, LAYOUT_GSI_EVENTS, true);
	kvm_irq_line(events->vm, LAYOUT_GSI_EVENTS, false);
	pthread_mutex_unlock(&events->lock);
}

void events_withdraw(struct events *events, uint32_t event)
{
	__atomic_fetch_and(&events->pending, ~event, __ATOMIC_RELAXED);
}
