package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
)

// A job of the fleet is one at each member, for each has events of its own. Its
// id names them all, ORDINAL:ID joined by commas; a list shows each by itself.

// part is a job at one member.
type part struct {
	member Member
	id     string
}

func (p part) String() string { return strconv.Itoa(p.member.Ordinal) + ":" + p.id }

// parts reads the id of a job; false is none of ours.
func (f *Fleet) parts(id string) ([]part, bool) {
	var all []part
	members := f.o.Members()
	for one := range strings.SplitSeq(id, ",") {
		ordinal, own, ok := strings.Cut(one, ":")
		n, err := strconv.Atoi(ordinal)
		at := slices.IndexFunc(members, func(m Member) bool { return m.Ordinal == n })
		if !ok || err != nil || own == "" || at < 0 || len(all) == len(members) {
			return nil, false
		}
		all = append(all, part{members[at], own})
	}
	return all, true
}

// maxFailures is how many failures a job shows.
const maxFailures = 20

// idOf is the id of a job that has these parts.
func idOf(of []part) string {
	ids := make([]string, len(of))
	for i, p := range of {
		ids[i] = p.String()
	}
	return strings.Join(ids, ",")
}

// mergeJob puts together what the parts of one job have come to; by are those
// who tell.
func mergeJob(id string, jobs []v1.Job, by []Member) v1.Job {
	whole := jobs[0]
	whole.ID, whole.Failures, whole.Gaps, whole.Error = id, nil, nil, ""
	whole.IDs = slices.Clone(whole.IDs)
	for i, j := range jobs {
		whole.Failures = append(whole.Failures, j.Failures...)
		whole.Gaps = append(whole.Gaps, j.Gaps...)
		if j.Error != "" {
			whole.Error = strings.TrimPrefix(whole.Error+"; "+by[i].Name+": "+j.Error, "; ")
		}
		if i == 0 {
			continue
		}
		if states(j.State) < states(whole.State) {
			whole.State = j.State
		}
		whole.IDs = append(whole.IDs, j.IDs...)
		whole.Rate += j.Rate
		whole.Total += j.Total
		whole.Seen += j.Seen
		whole.Matched += j.Matched
		whole.Delivered += j.Delivered
		whole.Failed += j.Failed
		whole.Discarded += j.Discarded
		whole.Skipped += j.Skipped
		whole.Unreadable += j.Unreadable
		if whole.Waiting == "" {
			whole.Waiting = j.Waiting
		}
		if whole.Ended = later(whole.Ended, j.Ended); j.Ended == nil {
			whole.Ended = nil
		}
		if j.Started.After(whole.Started) {
			whole.Started = j.Started
		}
	}
	if slices.ContainsFunc(jobs, func(j v1.Job) bool { return j.Ended == nil }) {
		whole.Ended = nil
	}
	whole.Failures = whole.Failures[:min(len(whole.Failures), maxFailures)]
	whole.Gaps = whole.Gaps[:min(len(whole.Gaps), maxFailures)]
	return whole
}

// states orders the states of the parts: the whole is in the first of them.
func states(state string) int {
	return slices.Index([]string{v1.JobRunning, v1.JobInterrupted, v1.JobFailed, v1.JobCancelled, v1.JobDone}, state)
}

// decodeJobs reads jobs, each with who told.
func decodeJobs(f *Fleet, replies []reply) (jobs []v1.Job, by []Member, lost []string) {
	for _, r := range replies {
		one, failed := decode[v1.Job](f, []reply{r})
		lost = append(lost, failed...)
		for _, j := range one {
			jobs, by = append(jobs, j), append(by, r.member)
		}
	}
	return jobs, by, lost
}

// beginJob begins a job at every member that has a part of it, or at none.
func (f *Fleet) beginJob(w http.ResponseWriter, r *http.Request) {
	text, ok := body(w, r)
	if !ok {
		return
	}
	var q v1.JobRequest
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil || d.More() {
		pass(w, f.ask(r, as(r, Member{Name: f.o.Self}, text))) // which says what is wrong with it
		return
	}
	questions, err := f.jobQuestions(r, q)
	if err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	good, other, away := f.sort(f.all(r, questions))
	if q.DryRun {
		f.preview(w, good, other, away)
		return
	}
	jobs, by, lost := decodeJobs(f, good)
	away = append(away, lost...)
	of := make([]part, len(jobs))
	for i := range jobs {
		of[i] = part{by[i], jobs[i].ID}
	}
	if other == nil && len(away) == 0 {
		whole := mergeJob(idOf(of), jobs, by)
		w.Header().Set("Location", "/api/v1/jobs/"+url.PathEscape(whole.ID))
		write(w, http.StatusCreated, whole)
		return
	}
	// All or none: what was begun ends again. A redrive that ran for a moment has
	// lost nothing, and one that is half there would be forgotten.
	for _, p := range of {
		f.ask(r, question{member: p.member, method: http.MethodPost, path: "/api/v1/jobs/" + url.PathEscape(p.id) + "/cancel"})
	}
	if other != nil {
		pass(w, *other)
		return
	}
	refuse(w, http.StatusServiceUnavailable, "%s did not answer, and no job was begun: ask again when it is there", strings.Join(away, ", "))
}

// jobQuestions divides a request for a job: each member gets the ids that are
// its own, and an equal part of the rate.
func (f *Fleet) jobQuestions(r *http.Request, q v1.JobRequest) ([]question, error) {
	members := f.o.Members()
	own := make(map[int][]string)
	for _, id := range q.IDs {
		parsed, err := channel.ParseID(id)
		if err != nil {
			return nil, err
		}
		ordinal := f.o.Ordinal(parsed.Shard)
		if !slices.ContainsFunc(members, func(m Member) bool { return m.Ordinal == ordinal }) {
			return nil, fmt.Errorf("no event %s: there is no dispatcher with shard %d", id, parsed.Shard)
		}
		own[ordinal] = append(own[ordinal], id)
	}
	var asked []Member
	for _, m := range members {
		if len(q.IDs) == 0 || len(own[m.Ordinal]) > 0 {
			asked = append(asked, m)
		}
	}
	var questions []question
	for _, m := range asked {
		mine := q
		mine.IDs, mine.Rate = own[m.Ordinal], q.Rate/float64(len(asked))
		text, err := json.Marshal(mine)
		if err != nil {
			return nil, err
		}
		questions = append(questions, as(r, m, text))
	}
	return questions, nil
}

// preview adds up what a job would be about.
func (f *Fleet) preview(w http.ResponseWriter, good []reply, other *reply, away []string) {
	if other != nil {
		pass(w, *other)
		return
	}
	parts, lost := decode[v1.JobPreview](f, good)
	away = append(away, lost...)
	if len(parts) == 0 {
		refuse(w, http.StatusServiceUnavailable, "no dispatcher answers: %s", strings.Join(away, ", "))
		return
	}
	whole := parts[0]
	for _, p := range parts[1:] {
		whole.Matched += p.Matched
		whole.Seen += p.Seen
		whole.Whole = whole.Whole && p.Whole
		whole.Sample = append(whole.Sample, p.Sample...)
		whole.Gaps = append(whole.Gaps, p.Gaps...)
	}
	whole.Sample = whole.Sample[:min(len(whole.Sample), 10)]
	lacks(w, away)
	write(w, http.StatusOK, whole)
}

// listJobs lists the jobs of each member, the newest first.
func (f *Fleet) listJobs(w http.ResponseWriter, r *http.Request) {
	good, other, away := f.sort(f.all(r, f.everybody(r, nil)))
	if other != nil {
		pass(w, *other)
		return
	}
	list := v1.JobList{Items: []v1.Job{}}
	for _, g := range good {
		lists, lost := decode[v1.JobList](f, []reply{g})
		away = append(away, lost...)
		for _, l := range lists {
			for _, j := range l.Items {
				j.ID = part{g.member, j.ID}.String()
				list.Items = append(list.Items, j)
			}
		}
	}
	slices.SortStableFunc(list.Items, func(a, b v1.Job) int { return b.Created.Compare(a.Created) })
	lacks(w, away)
	write(w, http.StatusOK, list)
}

// job shows a job, cancels it or has it go on, at each member that has a part.
func (f *Fleet) job(w http.ResponseWriter, r *http.Request) {
	of, ok := f.parts(r.PathValue("id"))
	if !ok {
		refuse(w, http.StatusNotFound, "no job %.64q; GET /api/v1/jobs lists those there are", r.PathValue("id"))
		return
	}
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody)) // it has no meaning
	var questions []question
	for _, p := range of {
		path := "/api/v1/jobs/" + url.PathEscape(p.id)
		if action := r.PathValue("action"); action != "" {
			path += "/" + url.PathEscape(action)
		}
		questions = append(questions, question{member: p.member, method: r.Method, path: path, query: r.URL.RawQuery})
	}
	replies := f.all(r, questions)
	// A part that has come to its end does not go on, and is none the worse for it.
	moved := slices.ContainsFunc(replies, func(a reply) bool { return a.err == nil && a.code/100 == 2 })
	for i := range replies {
		if moved && replies[i].err == nil && replies[i].code == http.StatusConflict {
			replies[i] = f.ask(r, question{member: of[i].member, method: http.MethodGet, path: "/api/v1/jobs/" + url.PathEscape(of[i].id)})
		}
	}
	good, other, away := f.sort(replies)
	jobs, by, lost := decodeJobs(f, good)
	away = append(away, lost...)
	switch {
	case other != nil:
		pass(w, *other)
	case len(away) > 0 && (r.Method != http.MethodGet || len(jobs) == 0):
		refuse(w, http.StatusServiceUnavailable, "%s did not answer, and its part of the job is as it was: ask again; %s has done it", strings.Join(away, ", "), names(good))
	default:
		lacks(w, away)
		write(w, http.StatusOK, mergeJob(idOf(of), jobs, by))
	}
}
