package private

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	firstFD  = 3 // exec.Cmd.ExtraFiles begin here: the cluster's directory
	secondFD = 4 // a file for initdb

	evictPoll = 10 * time.Millisecond
	evictKill = fastLongest + quitLongest // then SIGKILL
	evictEnd  = evictKill + 5*time.Second // then we give up
)

func procFD(n int) string { return "/proc/self/fd/" + strconv.Itoa(n) }

// child is a process of ours.
type child struct {
	process *os.Process
	done    chan struct{} // closed when it has ended
	err     error         // how; read after done
}

// spawn starts a program of PostgreSQL on a cluster, as the server's user.
func (s *Server) spawn(cluster string, log, second *os.File, program string, args ...string) (*child, error) {
	dir, err := os.Open(cluster)
	if err != nil {
		return nil, fmt.Errorf("open the cluster: %w", err)
	}
	defer dir.Close()
	data := cluster
	if closed := s.closedTo(cluster); closed != "" {
		// The server's user may not pass through a parent of it, such as
		// /root. We may, so the user is handed the open directory instead of
		// its path: this, and nothing else behind that door.
		s.log.Debug("a directory is closed to PostgreSQL's user, who gets the cluster opened", "closed", closed, "user", s.owner.name)
		data = procFD(firstFD)
	}
	cmd := exec.Command(filepath.Join(s.bin, program), append([]string{"-D", data}, args...)...)
	cmd.Dir = "/" // ours may be closed to the server's user
	cmd.Env = []string{"PATH=" + s.bin + ":/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{dir}
	if second != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, second)
	}
	// SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for its clients.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT, Setpgid: true} // its own group: ^C is for us, and we stop it last
	if s.owner.drop {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(s.owner.uid), Gid: uint32(s.owner.gid)}
	}
	c := &child{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death signal comes when the thread that forked dies, not the
		// process (prctl(2), PR_SET_PDEATHSIG): this goroutine keeps it alive.
		runtime.LockOSThread()
		err := cmd.Start()
		if err == nil {
			c.process = cmd.Process
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run %s as %s: %w", cmd.Path, s.owner.name, err)
	}
	return c, nil
}

// status says how an ended process ended.
func (c *child) status() string {
	if c.err == nil {
		return "exit status 0"
	}
	return c.err.Error()
}

// end asks a server to end, then insists, and waits until it has.
func (c *child) end(polite time.Duration) {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, polite}, {syscall.SIGQUIT, quitLongest}} {
		_ = c.process.Signal(step.signal) // it may have ended already
		select {
		case <-c.done:
			return
		case <-time.After(step.wait):
		}
	}
	_ = c.process.Kill()
	<-c.done
}

// closedTo names the first directory on the way to path that the server's user
// may not enter; "" when the way is open. Access control has more rules than
// mode bits, so it is the user who tries.
func (s *Server) closedTo(path string) string {
	if !s.owner.drop || s.enters(path) {
		return ""
	}
	at := "/"
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		at = filepath.Join(at, name)
		if !s.enters(at) {
			return at
		}
	}
	return ""
}

func (s *Server) enters(dir string) bool {
	cmd := exec.Command("/bin/sh", "-c", `cd -- "$1"`, "sh", dir)
	cmd.Dir = "/"
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(s.owner.uid), Gid: uint32(s.owner.gid)}}
	return cmd.Run() == nil
}

// evict waits until no process of PostgreSQL stands in a cluster, and makes it
// so. We hold the directory's lock, so whoever is there was left by a run that
// died: a server that got the death signal and is still writing, or the orphans
// of one that was killed.
func (s *Server) evict(ctx context.Context, cluster string) error {
	start := time.Now()
	sent := map[int]syscall.Signal{}
	for {
		pids := workers(cluster)
		if len(pids) == 0 {
			return nil
		}
		waited := time.Since(start)
		signal := syscall.SIGINT
		switch {
		case waited > evictEnd:
			return fmt.Errorf("processes %v still work in %s", pids, cluster)
		case waited > evictKill:
			signal = syscall.SIGKILL
		case waited > fastLongest:
			signal = syscall.SIGQUIT
		}
		for _, pid := range pids {
			if sent[pid] != signal {
				_ = syscall.Kill(pid, signal) // it may have ended meanwhile
				sent[pid] = signal
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(evictPoll):
		}
	}
}

// workers finds the processes of PostgreSQL that work in the cluster. A pid in postmaster.pid proves nothing: it may be a zombie, which has
// no directory any more, or somebody else's by now.
func workers(cluster string) []int {
	if real, err := filepath.EvalSymlinks(cluster); err == nil { // an administrator may have moved it to another disk
		cluster = real
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cwd, _ := os.Readlink("/proc/" + e.Name() + "/cwd") // "" when it has ended, or is not ours to see
		dir, _ := os.Readlink("/proc/" + e.Name() + "/fd/" + strconv.Itoa(firstFD))
		if cwd != cluster && dir != cluster { // initdb stands elsewhere, but has it open from us
			continue
		}
		comm, err := os.ReadFile("/proc/" + e.Name() + "/comm")
		if err != nil {
			continue
		}
		switch strings.TrimSpace(string(comm)) {
		case "postgres", "postmaster", "initdb": // an administrator's shell is not one
			pids = append(pids, pid)
		}
	}
	return pids
}
