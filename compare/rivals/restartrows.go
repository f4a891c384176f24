package rivals

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hotsvc/svc/internal/load"
)

// The targets of restarts.
const (
	targetStart     = 3   // times a bare start
	targetTableflip = 1.5 // times tableflip's
)

// addRestarts asks what a restart does to the requests beside it.
func (r *Report) addRestarts(ctx context.Context, plan Plan) error {
	measured, err := measureRestarts(ctx, systems(), plan.Restarts)
	if err != nil {
		return err
	}
	rows, err := restartRows(measured, plan.Seed)
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, rows...)
	l := plan.Restarts.Load
	r.Notes = append(r.Notes, fmt.Sprintf("Restarts: %d of each system over %s, in %d turns, %v from the end of one to the trigger of the next. The clients: %d with a fresh connection "+
		"for each POST, %d that POST without a pause on one connection, %d that think for %v to %v before each POST. None sends anything twice, and each "+
		"error and each status but 200 counts. All systems are this program once more, with the same handler; ours serves with its own server, the others with a "+
		"plain net/http. The time to accepting is that until a new process answers a fresh connection; the start beside it is that of the same program in the same rounds, under "+
		"the same load, from exec to the first answer.",
		plan.Restarts.Restarts, plan.Restarts.Protocol, plan.Restarts.Turns, plan.Restarts.Gap, l.Fresh, l.Busy, l.Idle, l.ThinkMin, l.ThinkMax))
	for _, m := range measured {
		r.Notes = append(r.Notes, m.note())
	}
	return nil
}

// restartRows are the rows of all systems; the targets are for ours.
func restartRows(measured []restarts, seed uint64) ([]Row, error) {
	var rows []Row
	for _, m := range measured {
		ours, title := m.system.name == serverOurs, m.system.title()
		count := func(what string, n, of uint64) Row {
			row := Row{
				What: fmt.Sprintf("%s in restarts, %s, of %d", what, title, of),
				Ours: Figure{Name: title, Value: float64(n), Unit: unitRequests},
			}
			if ours {
				row.Target, row.Met = "0", new(n == 0)
			}
			return row
		}
		twice := m.executions.Twice + m.seen.Of(load.AnsweredTwice)
		rows = append(
			rows,
			count("fresh connections that fail", m.seen.Fresh.Failed()+m.probes, m.seen.Fresh.Requests+m.probes),
			count("busy POSTs that fail", m.seen.Busy.Failed(), m.seen.Busy.Requests),
			count("POSTs after a pause that fail", m.seen.Idle.Failed(), m.seen.Idle.Requests),
			count("POSTs executed or answered twice", twice, m.seen.Requests()),
		)
		toStart, err := compare(m.accepting, m.bare, seed)
		if err != nil {
			return nil, err
		}
		row := Row{
			What: "trigger to accepting, " + title, Ours: Figure{Name: title, Value: median(m.accepting), Unit: "ms"},
			Rival: &Figure{Name: "a bare start", Value: median(m.bare), Unit: "ms"}, Ratio: toStart,
		}
		if ours {
			row.Target, row.Met = fmt.Sprintf("<= %d", targetStart), new(toStart.Median <= targetStart)
		}
		rows = append(rows, row, Row{
			What: "the same, p99, " + title, Ours: Figure{Name: title, Value: quantile(m.accepting, 0.99), Unit: "ms"},
		})
		if !ours {
			continue
		}
		for _, rival := range measured {
			if rival.system.name != systemTableflip {
				continue
			}
			ratio, err := compare(m.accepting, rival.accepting, seed)
			if err != nil {
				return nil, err
			}
			rows = append(rows, Row{
				What: "trigger to accepting, beside tableflip", Ours: row.Ours,
				Rival: &Figure{Name: rival.system.title(), Value: median(rival.accepting), Unit: "ms"}, Ratio: ratio,
				Target: fmt.Sprintf("<= %v", targetTableflip), Met: new(ratio.Median <= targetTableflip),
			})
		}
	}
	return rows, nil
}

// note says in words what the rows have no room for.
func (m restarts) note() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d restarts:", m.system.title(), len(m.accepting))
	for _, group := range []struct {
		name string
		load.Group
	}{{"fresh", m.seen.Fresh}, {"busy", m.seen.Busy}, {"idle", m.seen.Idle}} {
		fmt.Fprintf(&b, " %s: %d of %d failed%s, p50 %v, p99 %v", group.name, group.Failed(), group.Requests, failuresText(group.Failures),
			group.Latency(0.5).Round(10*time.Microsecond), group.Latency(0.99).Round(10*time.Microsecond))
		if group.name != "fresh" {
			fmt.Fprintf(&b, ", %d connections ended after an answer that said so and %d without one, %d of %d clients kept theirs for a turn", group.Told, group.Ended, group.Kept, group.Clients)
		}
		b.WriteString(";")
	}
	fmt.Fprintf(&b, " %d probes failed; %d triggers were refused and repeated; accepting after p50 %.1f, p99 %.1f ms, a bare start p50 %.1f, p99 %.1f ms; "+
		"executed twice %d, answered twice %d, executed without an answer %d, answered without execution %d, executed under an id that nobody sent %d.",
		m.probes, m.refused, median(m.accepting), quantile(m.accepting, 0.99), median(m.bare), quantile(m.bare, 0.99),
		m.executions.Twice, m.seen.Of(load.AnsweredTwice), m.executions.Unanswered, m.executions.Missing, m.executions.Unknown)
	return b.String()
}

func failuresText(failures map[load.Kind]load.Failure) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(failures)) {
		parts = append(parts, fmt.Sprintf("%d %s, such as %q", failures[kind].Count, kind, failures[kind].Texts[0]))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, "; ") + ")"
}
