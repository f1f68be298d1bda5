/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/platform/power.h"

#include "machine/layout.h"

#include <time.h>

#define TIMER_HZ   3579545
#define TIMER_MASK 0xffffff

#define STATUS_TIMER          (1U << 0)
#define STATUS_BUTTON         (1U << 8)
#define STATUS_WAKE           (1U << 15)
#define CONTROL_SCI           (1U << 0)
#define CONTROL_SLEEP         (1U << 13)
#define CONTROL_TYPE(control) ((control) >> 10 & 7)

/* The SCI is a level: up as long as an enabled event is pending. */
static void update_sci(struct power *power)
{
	kvm_irq_line(power->vm, LAYOUT_GSI_SCI, power->status & power->enable);
}

static uint32_t timer_ticks(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return ((uint64_t)now.tv_sec * TIMER_HZ + (uint64_t)now.tv_nsec * TIMER_HZ / 1000000000) &
	       TIMER_MASK;
}

static uint64_t power_read(void *opaque, uint64_t offset, unsigned size)
{
	struct power *power = opaque;
	uint64_t registers;

	(void)size;
	pthread_mutex_lock(&power->lock);
	if (offset < 8)
		registers = power->status | (uint64_t)power->enable << 16 |
			    (uint64_t)(power->control | CONTROL_SCI) << 32;
	else
		registers = timer_ticks();
	pthread_mutex_unlock(&power->lock);
	return registers >> 8 * (offset % 8);
}

static void write_control(struct power *power, uint16_t value)
{
	power->control = value & ~CONTROL_SLEEP;
	if (value & CONTROL_SLEEP && CONTROL_TYPE(value) == POWER_SLEEP_TYPE_OFF)
		power->off(power->opaque);
}

static void power_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *power = opaque;

	pthread_mutex_lock(&power->lock);
	if (offset == 0 && size >= 2)
		power->status &= ~value; /* written ones clear */
	if (offset == 0 && size == 4)
		power->enable = value >> 16;
	if (offset == 2)
		power->enable = value;
	if (offset == 4 && size >= 2)
		write_control(power, value);
	update_sci(power);
	pthread_mutex_unlock(&power->lock);
}

static const struct space_ops power_ops = { power_read, power_write };

static uint64_t keyboard_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque, (void)offset, (void)size;
	return 0;
}

/* The keyboard controller's command FE, the oldest way to reset a PC. */
static void keyboard_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	struct power *power = opaque;

	(void)offset, (void)size;
	if ((value & 0xff) == 0xfe)
		power->reset(power->opaque);
}

static const struct space_ops keyboard_ops = { keyboard_read, keyboard_write };

int power_init(struct power *power, struct space *pio, struct kvm_vm *vm)
{
	int code;

	power->vm = vm;
	pthread_mutex_init(&power->lock, NULL);
	code = space_add(pio, LAYOUT_POWER_PORT, POWER_PORTS, &power_ops, power);
	if (!code)
		code = space_add(pio, 0x64, 1, &keyboard_ops, power);
	return code;
}

void power_press_button(struct power *power)
{
	pthread_mutex_lock(&power->lock);
	power->status |= STATUS_BUTTON;
	update_sci(power);
	pthread_mutex_unlock(&power->lock);
}
