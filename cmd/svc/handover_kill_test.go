//go:build linux

package main

import (
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hotsvc/svc/server/keeper"
)

// TestKillAtRandom kills one of the processes at any moment of a restart, again
// and again: the service comes back by itself, or, where it was the keeper, when
// it is started again.
func TestKillAtRandom(t *testing.T) {
	t.Parallel()
	const rounds = 25
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	first, second, third := freeAddress(t), freeAddress(t), freeAddress(t)
	s := newSubject(t, moving(first, second, 0))
	s.run()
	killed := map[string]int{}
	for round := range rounds {
		n := round + 1
		target := []string{"keeper", "serving", "new", "old"}[round%4]
		if random.IntN(2) == 0 {
			s.edit(moving(first, []string{second, third}[n%2], n))
			time.Sleep(time.Duration(250+random.IntN(200)) * time.Millisecond)
		} else {
			s.edit(moving(first, []string{third, second}[n%2], n)) // the address stays
			s.signal(syscall.SIGUSR2)
			time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
		}
		if target == "keeper" {
			s.signal(syscall.SIGKILL)
			<-s.done
			killed[target]++
			s.run()
		} else if table, err := s.ask(); err == nil {
			for _, g := range table.Generations {
				if is := map[string]bool{
					"serving": g.Number == table.Serving,
					"new":     slices.Contains([]keeper.State{keeper.StateStarting, keeper.StatePrepared}, g.State),
					"old":     g.State == keeper.StateDraining,
				}; is[target] {
					s.kill(g.PID, syscall.SIGKILL)
					killed[target]++
					break
				}
			}
		}
		s.eventually("the service is back", func() bool { _, ok := s.at(first); return ok })
		if keepers, _ := s.processes(); len(keepers) != 1 {
			t.Fatalf("keepers %v in round %d", keepers, round)
		}
		if round%8 == 7 {
			s.svc("run").want(t, 1, "is running with it")
			s.svc("restart").want(t, 0, "restarted")
		}
	}
	t.Logf("killed %v", killed)
	for _, target := range []string{"keeper", "serving"} {
		if killed[target] == 0 {
			t.Errorf("%s was never killed", target)
		}
	}
	s.edit(moving(first, third, 1000))
	s.eventually("the last config", func() bool { return s.has(first, 1000) && s.has(third, 1000) })
	s.settled()
	s.svc("restart").want(t, 0, "restarted")
	s.changes()
	s.svc("status").want(t, 0, "healthy")
	s.settled()
	if _, workers := s.processes(); len(workers) != 1 {
		t.Errorf("workers %v", workers)
	}
	s.stop()
	// The folder is of use afterwards.
	if err := os.Remove(s.path("config.yaml")); err != nil {
		t.Fatal(err)
	}
	s.run()
	if !s.has(third, 1000) {
		t.Errorf("last good is not the last config: %+v", s.status())
	}
	s.stop()
}

// TestKilledKeeperWithRequests: the workers of a killed keeper finish what they
// have begun, and the next service takes the addresses over meanwhile.
func TestKilledKeeperWithRequests(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	s := newSubject(t, "server: {listen: ['"+address+"']}\npublic: {n: 1}\n")
	s.run()
	worker := s.serving().PID
	answered := make(chan string, 1)
	s.echo("3s", answered)
	s.eventually("the request", func() bool { return s.status().Generations[0].Connections["http1"] == 1 })
	s.signal(syscall.SIGKILL)
	<-s.done
	s.run()
	if s.serving().PID == worker {
		t.Error("the worker of the killed keeper serves on")
	}
	if got := <-answered; got != "200 OK" {
		t.Errorf("the request under way: %s", got)
	}
	s.eventually("the end of the old worker", func() bool {
		_, workers := s.processes()
		return !slices.Contains(workers, worker)
	})
	if !s.has(address, 1) {
		t.Error("the address is lost")
	}
	s.svc("status").want(t, 0, "healthy")
	s.stop()
}

// echo makes a request that takes a time, and tells what became of it.
func (s *subject) echo(delay string, answered chan<- string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+"/v1/echo?delay="+delay, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		_ = resp.Body.Close()
		answered <- resp.Status
	}()
}
