---------------------------- MODULE JITReconfig ----------------------------
(***************************************************************************)
(* Online change of membership for JITPaxos (JITPaxos.tla).                 *)
(*                                                                          *)
(* A configuration is a set of voters.  Configuration e+1 is decided by an  *)
(* entry of the log, committed like any other in a view of epoch e, and     *)
(* governs the views of epoch e+1, which begin at a view change.  A view is *)
(* a pair (epoch, counter) in lexicographic order, here one number:         *)
(*     view v = epoch * K + counter + 1,   0 = none.                        *)
(*                                                                          *)
(* RULES (the names are those of docs/internals/protocol.md)                *)
(*  C1  The first valid "cfg" entry numbered e+1 decides configuration e+1; *)
(*      it is valid only when no earlier one is still open: "go e" stands   *)
(*      before it in the log (e = 0: at once).                              *)
(*  C2  A view of epoch e is asked for, promised and voted for only once    *)
(*      configuration e is committed.                                       *)
(*  C3  It starts from the votes of a majority of configuration e; and,     *)
(*      unless the highest logView among them is of epoch e already, it has *)
(*      to be of epoch e-1 and a majority of configuration e-1 has to be    *)
(*      among them as well.  Only voters of these configurations count.     *)
(*  C4  The log that takes the cluster into epoch e ends with "go e".       *)
(*  C5  Views are compared by epoch first; the promise is durable.          *)
(*  C6  A host that is not in a configuration has no log (status "rec"), as *)
(*      one that lost it (rule R1): it learns, as a spare does, and neither *)
(*      votes nor acknowledges before it installed a view's log.            *)
(*  C7  An id means one data directory for good: a wiped host has another.  *)
(*                                                                          *)
(* SIMPLIFIED against JITPaxos.tla: operations are opaque and have no       *)
(* timestamps: any member may append any of them in any order, which is     *)
(* more than keys allow; no reads; no execution (a repair may cut whatever  *)
(* it may cut); recovery in a new view only; TailRule "cut".  Kept: the     *)
(* commit rule on chains (modelled by prefixes), repair, votes, the choice  *)
(* of the log, one start, spares that lag, R1.  Messages are never removed: *)
(* each may be lost, repeated, reordered.  A crash that keeps hard state    *)
(* and log is a stutter.  Which primary and quorum a view has is arbitrary: *)
(* it is chosen when the view is first promised, and then fixed.            *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS
  Hosts,      \* every id there ever is (model values)
  C0,         \* voters of epoch 0
  Ch1, Ch2,   \* voter sets that entries may propose for epochs 1 and 2
  K,          \* counters of an epoch
  Used,       \* the views that may be promised
  Ops,        \* operations of clients (model values)
  MaxCrash,   \* log-losing crashes in total
  AnyLearner, \* TRUE: every host may learn; FALSE: voters of a view and of the next configuration
  SymA, SymB, \* hosts that are alike, for symmetry
  Mut         \* "none" or the name of a broken rule

Symmetry == Permutations(SymA) \cup Permutations(SymB) \cup Permutations(Ops)

MaxEpoch == IF Ch2 # {} THEN 2 ELSE IF Ch1 # {} THEN 1 ELSE 0
Views == 1..((MaxEpoch + 1) * K)
Ep(v)  == (v - 1) \div K
Ctr(v) == (v - 1) % K
Above(v, w) ==
  IF Mut = "counter" /\ v > 0 /\ w > 0
  THEN Ctr(v) > Ctr(w) \/ (Ctr(v) = Ctr(w) /\ v > w)
  ELSE v > w

QSize(c) == Cardinality(c) \div 2 + 1
VSize(c) == Cardinality(c) - QSize(c) + 1

Op(o)     == [t |-> "op",  n |-> o, m |-> {}]
Cfg(e, c) == [t |-> "cfg", n |-> e, m |-> c]
Go(e)     == [t |-> "go",  n |-> e, m |-> {}]
Entries == {Op(o) : o \in Ops} \cup {Cfg(1, c) : c \in Ch1} \cup {Cfg(2, c) : c \in Ch2}

\* What a log says of configurations: cfg[e+1] is configuration e, go the last epoch begun.
Step(s, x) ==
  CASE x.t = "op" -> s
    [] x.t = "go" -> IF x.n = Len(s.cfg) - 1 THEN [s EXCEPT !.go = x.n] ELSE s
    [] x.t = "cfg" ->
         IF x.n = Len(s.cfg) /\ (s.go = x.n - 1 \/ Mut = "twopending")
         THEN [s EXCEPT !.cfg = Append(@, x.m)]
         ELSE IF Mut = "lastwins" /\ x.n = Len(s.cfg) - 1 /\ s.go < x.n
         THEN [s EXCEPT !.cfg = Append(SubSeq(@, 1, x.n), x.m)]
         ELSE s
RECURSIVE Fold(_, _, _)
Fold(l, i, s) == IF i > Len(l) THEN s ELSE Fold(l, i + 1, Step(s, l[i]))
Conf(l) == Fold(l, 1, [cfg |-> <<C0>>, go |-> 0])

None == [c |-> {}, p |-> {}, q |-> {}]
Layouts(c) == {[c |-> c, p |-> {r}, q |-> S] : r \in c, S \in {T \in SUBSET c : Cardinality(T) = QSize(c)}}
GoodLayouts(c) == {x \in Layouts(c) : x.p \subseteq x.q}

VARIABLES
  assign,   \* view -> [c: its configuration, p: {primary}, q: quorum], or None
  view,     \* durable: highest view joined or promised
  status,   \* "normal", "vc", "rec" (no log)
  log,
  lview,    \* view whose starting log was installed last; 0: none
  crashes,
  msgAck,   \* [v, r, log]
  msgSync,  \* [v, log]
  msgVote   \* [v, r, lv, log]

vars == <<assign, view, status, log, lview, crashes, msgAck, msgSync, msgVote>>

-----------------------------------------------------------------------------
IsPrefix(s, t) == Len(s) <= Len(t) /\ SubSeq(t, 1, Len(s)) = s
Comparable(s, t) == IsPrefix(s, t) \/ IsPrefix(t, s)
MaxN(S) == CHOOSE x \in S : \A y \in S : y <= x
MinN(S) == CHOOSE x \in S : \A y \in S : x <= y
Common(s, t) == MaxN({k \in 0..Len(s) : k <= Len(t) /\ SubSeq(s, 1, k) = SubSeq(t, 1, k)})

AddAck(S, a) ==
  LET same(b) == b.v = a.v /\ b.r = a.r IN
  IF \E b \in S : same(b) /\ IsPrefix(a.log, b.log) THEN S
  ELSE {b \in S : ~(same(b) /\ IsPrefix(b.log, a.log))} \cup {a}
Ack(r, v, l) == [v |-> v, r |-> r, log |-> l]

\* COMMIT RULE, as in the base model, by the quorum of the view.
Vouched(s, r) ==
  IF r \in assign[s.v].p THEN Len(s.log)
  ELSE MaxN({0} \cup {Common(a.log, s.log) : a \in {b \in msgAck : b.r = r /\ b.v = s.v}})
Chosen(s) == SubSeq(s.log, 1, MinN({Vouched(s, r) : r \in assign[s.v].q}))

\* The longest log of each view says all that shorter ones say.
Longest == IF Mut \in {"append", "lastwins"} THEN msgSync
           ELSE {s \in msgSync : \A t \in msgSync : (t.v = s.v /\ Len(t.log) > Len(s.log)) => ~IsPrefix(s.log, t.log)}
\* Configurations that somebody may act upon (C2): those that are committed. Computed once a state, and handed on as kn.
Known == {Conf(IF Mut = "append" THEN s.log ELSE Chosen(s)).cfg : s \in Longest}
Cfgs(kn, e) == IF e = 0 THEN {C0} ELSE {x[e + 1] : x \in {y \in kn : Len(y) > e}}
Concerned(kn, e) == UNION Cfgs(kn, e) \cup (IF e = 0 THEN {} ELSE UNION Cfgs(kn, e - 1))

-----------------------------------------------------------------------------
Init ==
  /\ assign \in {f \in [Views -> {None} \cup GoodLayouts(C0)] :
                    f[1] # None /\ \A v \in Views : v # 1 => f[v] = None}
  /\ view = [r \in Hosts |-> IF r \in C0 THEN 1 ELSE 0]
  /\ status = [r \in Hosts |-> IF r \in C0 THEN "normal" ELSE "rec"]
  /\ log = [r \in Hosts |-> <<>>]
  /\ lview = [r \in Hosts |-> IF r \in C0 THEN 1 ELSE 0]
  /\ crashes = 0
  /\ msgAck = {}
  /\ msgSync = {[v |-> 1, log |-> <<>>]}
  /\ msgVote = {}

\* The view in which r takes requests and repairs: 0 for none.
At(r) == IF status[r] = "normal" THEN view[r]
         ELSE IF Mut = "oldacks" /\ status[r] = "vc" /\ lview[r] > 0 /\ Ep(view[r]) > Ep(lview[r]) THEN lview[r]
         ELSE 0

Request(r, x) ==
  LET v == At(r)
      l == Append(log[r], x)
  IN /\ v > 0
     /\ r \in assign[v].q
     /\ \A i \in DOMAIN log[r] : log[r][i] # x
     /\ log' = [log EXCEPT ![r] = l]
     /\ msgAck' = IF r \in assign[v].p THEN msgAck ELSE AddAck(msgAck, Ack(r, v, l))
     /\ msgSync' = IF r \in assign[v].p THEN msgSync \cup {[v |-> v, log |-> l]} ELSE msgSync
     /\ UNCHANGED <<assign, view, status, lview, crashes, msgVote>>

Repaired(l, m) == IF IsPrefix(m, l) THEN l ELSE m

SyncRepair(r, m) ==
  /\ At(r) = m.v
  /\ r \notin assign[m.v].p
  /\ LET l == Repaired(log[r], m.log)
         a == IF r \in assign[m.v].q THEN AddAck(msgAck, Ack(r, m.v, l)) ELSE msgAck
     IN /\ log' = [log EXCEPT ![r] = l]
        /\ msgAck' = a
        /\ <<log', msgAck'>> # <<log, msgAck>>
  /\ UNCHANGED <<assign, view, status, lview, crashes, msgSync, msgVote>>

SyncInstall(r, m, kn) ==
  /\ AnyLearner \/ r \in assign[m.v].c \cup UNION Cfgs(kn, Ep(m.v) + 1)
  /\ r \notin assign[m.v].p
  /\ IF status[r] # "rec"
     THEN IF m.v = view[r] THEN status[r] = "vc" ELSE Above(m.v, view[r])
     ELSE IF m.v = view[r] THEN (r \notin assign[m.v].q \/ Mut = "rejoin") ELSE Above(m.v, view[r])
  /\ view' = [view EXCEPT ![r] = m.v]
  /\ status' = [status EXCEPT ![r] = "normal"]
  /\ LET l == IF Mut = "nocatchup" /\ r \notin C0 THEN log[r] ELSE m.log
     IN /\ log' = [log EXCEPT ![r] = l]
        /\ msgAck' = IF r \in assign[m.v].q THEN AddAck(msgAck, Ack(r, m.v, l)) ELSE msgAck
  /\ lview' = [lview EXCEPT ![r] = m.v]
  /\ UNCHANGED <<assign, crashes, msgSync, msgVote>>

\* PROMISE.  The first to promise a view fixes its layout.
Promise(r, v, kn) ==
  /\ Above(v, view[r])
  /\ IF Mut = "emptyvote" THEN TRUE ELSE status[r] # "rec"
  /\ \E a \in (IF assign[v] # None THEN {assign[v]} ELSE UNION {GoodLayouts(c) : c \in Cfgs(kn, Ep(v)) \cup (IF Mut = "overflow" /\ Ep(v) > 0 THEN Cfgs(kn, Ep(v) - 1) ELSE {})}) :
       /\ r \in a.c \cup Concerned(kn, Ep(v)) \/ Mut = "anyvoter"
       /\ assign' = [assign EXCEPT ![v] = a]
  /\ view' = [view EXCEPT ![r] = v]
  /\ status' = [status EXCEPT ![r] = "vc"]
  /\ msgVote' = msgVote \cup {[v |-> v, r |-> r, lv |-> lview[r], log |-> log[r]]}
  /\ UNCHANGED <<log, lview, crashes, msgAck, msgSync>>

Top(S) == CHOOSE x \in {y.lv : y \in S} : \A y \in S : ~Above(y.lv, x)
Candidates(S) ==
  LET top == Top(S)
      T   == {x \in S : x.lv = top}
      P   == {x \in T : top > 0 /\ x.r \in assign[top].p}
      M   == {x \in T : top > 0 /\ x.r \in assign[top].q}
  IN IF Mut = "spare" THEN T ELSE IF P # {} THEN P ELSE IF M # {} THEN M ELSE T

\* C3
Enough(S, v, kn) ==
  LET e   == Ep(v)
      c   == assign[v].c
      who == {x.r : x \in S}
      in(d) == Cardinality(IF Mut = "anyvoter" THEN who ELSE who \cap d)
      topE == IF Top(S) = 0 THEN 0 ELSE Ep(Top(S))
      majority(d) == in(d) >= VSize(d)
      new == majority(c) \/ (Mut = "oldonly" /\ e > 0)
      old == \A d \in Cfgs(kn, e - 1) : in(d) >= (IF Mut = "fewold" THEN VSize(d) - 1 ELSE VSize(d))
  IN /\ S # {}
     /\ Cardinality(who) = Cardinality(S)
     /\ new
     /\ IF e = 0 \/ topE = e THEN TRUE
        ELSE CASE Mut = "newonly" -> TRUE
               [] Mut \in {"twopending", "nogap"} -> old
               [] OTHER -> topE = e - 1 /\ old

Start(r, kn) ==
  LET v == view[r]
      e == Ep(v) IN
  /\ v > 0
  /\ status[r] = "vc"
  /\ r \in assign[v].p
  /\ \E S \in SUBSET {x \in msgVote : x.v = v} :
       /\ Enough(S, v, kn)
       /\ \E x \in Candidates(S) :
            LET l == IF e > 0 /\ (Top(S) = 0 \/ Ep(Top(S)) < e) THEN Append(x.log, Go(e)) ELSE x.log
            IN /\ log' = [log EXCEPT ![r] = l]
               /\ msgSync' = msgSync \cup {[v |-> v, log |-> l]}
  /\ lview' = [lview EXCEPT ![r] = v]
  /\ status' = [status EXCEPT ![r] = "normal"]
  /\ UNCHANGED <<assign, view, crashes, msgAck, msgVote>>

\* CRASH with loss of the log.
Crash(r) ==
  /\ crashes < MaxCrash
  /\ lview[r] > 0
  /\ crashes' = crashes + 1
  /\ IF Mut = "reuseid" /\ r \in C0
     THEN \* an empty disk under the id of the replica that is gone: a first start
          /\ status' = [status EXCEPT ![r] = "normal"]
          /\ lview' = [lview EXCEPT ![r] = 1]
          /\ view' = [view EXCEPT ![r] = 1]
     ELSE /\ status' = [status EXCEPT ![r] = "rec"]
          /\ lview' = [lview EXCEPT ![r] = 0]
          /\ view' = [view EXCEPT ![r] =
                        IF Mut = "epochvolatile" THEN Ctr(@) + 1 ELSE @]
  /\ log' = [log EXCEPT ![r] = <<>>]
  /\ UNCHANGED <<assign, msgAck, msgSync, msgVote>>

Next == LET kn == Known IN
  \/ \E r \in Hosts, x \in Entries : Request(r, x)
  \/ \E r \in Hosts, m \in msgSync : SyncRepair(r, m) \/ SyncInstall(r, m, kn)
  \/ \E r \in Hosts, v \in Used : Promise(r, v, kn)
  \/ \E r \in Hosts : Start(r, kn)
  \/ \E r \in Hosts : Crash(r)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
\* INVARIANTS
CS == {x \in {<<s.v, Chosen(s)>> : s \in Longest} : x[2] # <<>>}

\* committed entries agree, across views and configurations
Agree(C) == \A x, y \in C : Comparable(x[2], y[2])
\* every later starting log, of whatever epoch, has all of them
Kept(C) == \A x \in C : \A m \in msgSync : m.v > x[1] => IsPrefix(x[2], m.log)
\* and so does every member of its view and everybody who joined a later one
Held(C) == \A x \in C : \A r \in Hosts :
   (status[r] = "normal" /\ (view[r] > x[1] \/ (view[r] = x[1] /\ r \in assign[x[1]].q))) => IsPrefix(x[2], log[r])
\* one starting log a view
OneStart == \A s, t \in msgSync : s.v = t.v => Comparable(s.log, t.log)
\* the configuration that governs a view is the one that its log decided, and its log says in which epoch it is
EpochInLog == \A m \in msgSync : LET s == Conf(m.log) IN
   /\ s.go = Ep(m.v)
   /\ Len(s.cfg) > Ep(m.v) /\ s.cfg[Ep(m.v) + 1] = assign[m.v].c
OneCfg(kn) == \A e \in 0..MaxEpoch : Cardinality(Cfgs(kn, e)) <= 1
\* once a view of an epoch has started, no quorum of an older epoch is whole any more
OneActive == \A m \in msgSync : \A v \in Views :
   (assign[v] # None /\ Ep(v) < Ep(m.v)) => \E r \in assign[v].q : view[r] > v
\* what started had a majority of its own configuration behind it, and a majority of the one before: the rest decided nothing
Decided(kn) == \A m \in msgSync : m.v = 1 \/
   /\ LET c == assign[m.v].c IN Cardinality({r \in c : view[r] >= m.v}) >= VSize(c)
   /\ Ep(m.v) = 0 \/ \A d \in Cfgs(kn, Ep(m.v) - 1) : Cardinality({r \in d : view[r] > Ep(m.v) * K}) >= VSize(d)

Safe == LET C  == CS
            kn == {<<C0>>} \cup {Conf(x[2]).cfg : x \in C} IN
  /\ Agree(C) /\ Kept(C) /\ Held(C)
  /\ OneStart /\ EpochInLog /\ OneCfg(kn) /\ OneActive /\ Decided(kn)

\* the part that clients see: what a mutation has to break to count as caught by more than bookkeeping
AgreeInv == Agree(CS)
KeptInv  == Kept(CS)
HeldInv  == Held(CS)
Client   == LET C == CS IN Agree(C) /\ Kept(C)

\* VACUITY PROBES: each has to be violated
Ops1(l) == Cardinality({i \in DOMAIN l : l[i].t = "op"})
\* something of a client commits in the last epoch, behind what committed in the first
ProbeLast == \A s \in msgSync : ~(Ep(s.v) = MaxEpoch /\ Ops1(Chosen(s)) = Cardinality(Ops) /\ \E w \in msgSync : Ep(w.v) = 0 /\ Ops1(Chosen(w)) >= 1)
\* operations commit behind a decided configuration, in the old epoch
ProbeBehind == \A s \in msgSync : LET l == Chosen(s) IN ~(Ep(s.v) = 0 /\ Len(Conf(l).cfg) = 2 /\ l[Len(l)].t = "op")
\* a second view of an epoch starts from the logs of the epoch before: the first one came to nothing
ProbeTwice == \A s, t \in msgSync : ~(Ep(s.v) = 1 /\ Ep(t.v) = 1 /\ s.v # t.v /\ ~Comparable(s.log, t.log))
\* one that lost its log after the change is a member again
ProbeRejoin == ~(crashes > 0 /\ \E s \in msgSync : Ep(s.v) = MaxEpoch /\ Ctr(s.v) = K - 1 /\ Ops1(Chosen(s)) = Cardinality(Ops))
=============================================================================
