/* What does not go on at the receive side of a link, see stall.h. */
#include "net/link/stall.h"

#include "base/ids.h"

void stall_init(struct stall *s, uint64_t now_us)
{
    *s = (struct stall){.ticked_us = now_us};
}

void stall_tick(struct stall *s, const struct inbox *b, uint64_t now_us, uint64_t beat_us)
{
    uint64_t passed_us = now_us - s->ticked_us;
    if (passed_us > beat_us) passed_us = beat_us;
    s->ticked_us = now_us;
    bool same = inbox_frame_open(b) && b->frames == s->frames_seen;
    s->frames_seen = b->frames;
    s->frame_us = same ? s->frame_us + passed_us : 0;
    for (int lane = 0; lane < 2; lane++) {
        bool still = inbox_body_open(b, (enum lane)lane) && b->gained[lane] == s->body_seen[lane];
        s->body_seen[lane] = b->gained[lane];
        s->body_quiet_us[lane] = still ? s->body_quiet_us[lane] + passed_us : 0;
    }
}

uint64_t stall_body_us(const struct stall *s)
{
    return s->body_quiet_us[0] > s->body_quiet_us[1] ? s->body_quiet_us[0] : s->body_quiet_us[1];
}

uint64_t stall_deadline_us(const struct stall *s, const struct inbox *b, uint64_t beat_us)
{
    bool open = inbox_body_open(b, LANE_CONTROL) || inbox_body_open(b, LANE_BULK) || inbox_frame_open(b);
    return open ? s->ticked_us + beat_us : TIME_NEVER;
}
