%% SPDX-License-Identifier: MIT
%%
%% The benchmarks of bench-actor on Erlang/OTP, with the same counts and the same lines.
%%
%% usage: erl -noshell +S N:N -pa DIR -s savina main -extra WORKERS ROUNDS
-module(savina).
-export([main/0, worker/0, init/1]).

main() ->
    [Workers, Rounds] = [list_to_integer(A) || A <- init:get_plain_arguments()],
    [measure(B, Workers, Rounds) || B <- benches()],
    halt(0).

benches() ->
    [{"count", "M msg/s", more, fun() -> fan_in(1, 5000000) end},
     {"4-to-1", "M msg/s", more, fun() -> fan_in(4, 1000000) end},
     {"ping-pong", "M trips/s", more, fun ping_pong/0},
     {"ring", "M hops/s", more, fun ring/0},
     {"big", "M msg/s", more, fun big/0},
     {"chameneos", "M meetings/s", more, fun chameneos/0},
     {"behind-20ms", "us p50", less, fun behind/0},
     {"spawn", "us", less, fun spawning/0},
     {"bytes", "bytes/actor", less, fun bytes/0},
     {"fork-join-creation", "M actors/s", more, fun fork_join_creation/0},
     {"fork-join-throughput", "M msg/s", more, fun fork_join_throughput/0},
     {"dictionary", "M asks/s", more, fun dictionary/0},
     {"philosophers", "M meals/s", more, fun philosophers/0},
     {"restart-p50", "us", less, fun() -> restart(50) end},
     {"restart-p99", "us", less, fun() -> restart(99) end},
     {"request", "M/s", more, fun request/0}].

measure({Name, Unit, Better, Run}, Workers, Rounds) ->
    Values = lists:sort([alone(Run) || _ <- lists:seq(1, Rounds)]),
    Best = case Better of more -> lists:last(Values); less -> hd(Values) end,
    io:format("~-24s ~b workers ~10.3f  best ~10.3f ~s~n",
              [Name, Workers, lists:nth(Rounds div 2 + 1, Values), Best, Unit]).

%% Each round in a process of its own, with a heap of its own.
alone(Run) ->
    Self = self(),
    spawn_link(fun() -> Self ! {value, float(Run())} end),
    receive {value, V} -> V end.

%% Work per microsecond: millions a second.
rate(Work, Fun) ->
    Begun = erlang:monotonic_time(nanosecond),
    Fun(),
    Work / ((erlang:monotonic_time(nanosecond) - Begun) / 1000).

await(0) -> ok;
await(N) -> receive done -> await(N - 1) end.

%% --- count, 4 to 1

fan_in(Producers, Each) ->
    Self = self(),
    rate(Producers * Each,
         fun() ->
             To = spawn_link(fun() -> count(Producers * Each), Self ! done end),
             [spawn_link(fun() -> produce(To, Each) end) || _ <- lists:seq(1, Producers)],
             await(1)
         end).

count(0) -> ok;
count(N) -> receive hit -> count(N - 1) end.

produce(_, 0) -> ok;
produce(To, N) -> To ! hit, produce(To, N - 1).

%% --- ping-pong, ring

ping_pong() ->
    Trips = 1000000,
    Self = self(),
    Pong = spawn_link(fun pong/0),
    V = rate(Trips, fun() -> spawn_link(fun() -> ping(Pong, Trips), Self ! done end), await(1) end),
    Pong ! stop,
    V.

pong() -> receive {hit, From} -> From ! {hit, self()}, pong(); stop -> ok end.

ping(_, 0) -> ok;
ping(Pong, N) -> Pong ! {hit, self()}, receive {hit, _} -> ping(Pong, N - 1) end.

ring() ->
    Hops = 3000000,
    Self = self(),
    First = spawn_link(fun() -> receive {next, Next} -> link_of(Next, Self) end end),
    Last = lists:foldl(fun(_, Next) -> spawn_link(fun() -> link_of(Next, Self) end) end, First, lists:seq(2, 100)),
    First ! {next, Last},
    V = rate(Hops, fun() -> First ! Hops, await(1) end),
    First ! stop,
    V.

link_of(Next, Main) ->
    receive
        stop -> Next ! stop;
        0 -> Main ! done, link_of(Next, Main);
        N -> Next ! N - 1, link_of(Next, Main)
    end.

%% --- big: each of 120 asks a random one, 20000 times

big() ->
    Self = self(),
    All = [spawn_link(fun() -> receive {all, T} -> big(T, Seed, 20000, Self) end end) || Seed <- lists:seq(1, 120)],
    T = list_to_tuple(All),
    [P ! {all, T} || P <- All],
    V = rate(2 * 120 * 20000, fun() -> [P ! go || P <- All], await(120) end),
    [P ! stop || P <- All],
    V.

big(All, Random, Left, Main) ->
    receive
        {hit, From} -> From ! go, big(All, Random, Left, Main);
        stop -> ok;
        go when Left =:= 0 -> Main ! done, big(All, Random, Left, Main);
        go ->
            R = (Random * 1103515245 + 12345) band 16#7fffffff,
            element((R bsr 8) rem 120 + 1, All) ! {hit, self()},
            big(All, R, Left - 1, Main)
    end.

%% --- chameneos: a mall pairs those who come

chameneos() ->
    Meetings = 500000,
    Self = self(),
    rate(Meetings,
         fun() ->
             Mall = spawn_link(fun() -> mall(none, Meetings, 0, Self) end),
             All = [spawn_link(fun() -> Mall ! {come, self()}, chameneo(Mall, C rem 3) end) || C <- lists:seq(1, 100)],
             await(1),
             [P ! stop || P <- All]
         end).

mall(_, 0, 100, Main) -> Main ! done;
mall(First, 0, Gone, Main) -> receive {come, _} -> mall(First, 0, Gone + 1, Main) end;
mall(none, Left, Gone, Main) -> receive {come, A} -> mall(A, Left, Gone, Main) end;
mall(A, Left, Gone, Main) -> receive {come, B} -> A ! {meet, B}, mall(none, Left - 1, Gone, Main) end.

chameneo(Mall, Colour) ->
    receive
        {meet, Other} -> Other ! met, Mall ! {come, self()}, chameneo(Mall, (Colour + 1) rem 3);
        met -> Mall ! {come, self()}, chameneo(Mall, (Colour + 1) rem 3);
        stop -> ok
    end.

%% --- behind a computation of 20 ms (it is preempted, and loads a scheduler)

behind() ->
    Self = self(),
    Late = spawn_link(fun Wait() ->
                          receive {at, T} -> Self ! {took, erlang:monotonic_time(nanosecond) - T}, Wait(); stop -> ok end
                      end),
    Took = [begin
                spawn_link(fun() ->
                               T = erlang:monotonic_time(nanosecond),
                               Late ! {at, T},
                               busy(T + 20000000)
                           end),
                receive {took, V} -> timer:sleep(30), V end
            end || _ <- lists:seq(1, 15)],
    Late ! stop,
    percentile(Took, 50) / 1000.

busy(End) -> case erlang:monotonic_time(nanosecond) < End of true -> busy(End); false -> ok end.

percentile(Values, P) -> lists:nth(length(Values) * P div 100 + 1, lists:sort(Values)).

%% --- spawning

spawning() ->
    N = 200000,
    Begun = erlang:monotonic_time(nanosecond),
    All = [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, N)],
    V = (erlang:monotonic_time(nanosecond) - Begun) / N / 1000,
    [P ! stop || P <- All],
    V.

bytes() ->
    N = 200000,
    Before = erlang:memory(processes),
    All = [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, N)],
    V = (erlang:memory(processes) - Before) / N,
    [P ! stop || P <- All],
    V.

fork_join_creation() ->
    N = 1000000,
    rate(N, fun() -> fork_join(N, 0) end).

fork_join(0, 0) -> ok;
fork_join(Left, Out) when Left > 0, Out < 1000 ->
    Self = self(),
    P = spawn(fun() -> receive go -> Self ! done end end),
    P ! go,
    fork_join(Left - 1, Out + 1);
fork_join(Left, Out) -> receive done -> fork_join(Left, Out - 1) end.

fork_join_throughput() ->
    Each = 50000,
    Self = self(),
    rate(60 * Each,
         fun() ->
             All = [spawn_link(fun() -> count(Each), Self ! done end) || _ <- lists:seq(1, 60)],
             spawn_link(fun() -> [[P ! hit || P <- All] || _ <- lists:seq(1, Each)] end),
             await(60)
         end).

%% --- dictionary: 20 clients, one in eight writes

dictionary() ->
    Asks = 50000,
    Self = self(),
    D = spawn_link(fun() -> dictionary(erlang:make_tuple(512, 0), #{}) end),
    V = rate(20 * Asks,
             fun() ->
                 [spawn_link(fun() -> client(D, Seed, Asks), Self ! done end) || Seed <- lists:seq(1, 20)],
                 await(20)
             end),
    D ! stop,
    V.

dictionary(Slots, Map) ->
    receive
        {put, From, K, Value} -> From ! ok, dictionary(Slots, Map#{K rem 512 => Value});
        {get, From, K} -> From ! {ok, maps:get(K rem 512, Map, 0)}, dictionary(Slots, Map);
        stop -> ok
    end.

client(_, _, 0) -> ok;
client(D, Random, N) ->
    R = (Random * 1103515245 + 12345) band 16#7fffffff,
    case (R bsr 8) band 7 of
        0 -> D ! {put, self(), R bsr 11, R}, receive ok -> ok end;
        _ -> D ! {get, self(), R bsr 11}, receive {ok, _} -> ok end
    end,
    client(D, R, N - 1).

%% --- philosophers: 20, an arbiter with the forks

philosophers() ->
    Meals = 20000,
    Self = self(),
    A = spawn_link(fun() -> arbiter(0) end),
    V = rate(20 * Meals,
             fun() ->
                 [spawn_link(fun() -> philosopher(A, Who, Meals), Self ! done end) || Who <- lists:seq(0, 19)],
                 await(20)
             end),
    A ! stop,
    V.

arbiter(Forks) ->
    receive
        {hungry, From, Who} ->
            Both = (1 bsl Who) bor (1 bsl ((Who + 1) rem 20)),
            case Forks band Both of
                0 -> From ! eat, arbiter(Forks bor Both);
                _ -> From ! denied, arbiter(Forks)
            end;
        {full, Who} -> arbiter(Forks band bnot ((1 bsl Who) bor (1 bsl ((Who + 1) rem 20))));
        stop -> ok
    end.

philosopher(_, _, 0) -> ok;
philosopher(A, Who, N) ->
    A ! {hungry, self(), Who},
    receive
        eat -> A ! {full, Who}, philosopher(A, Who, N - 1);
        denied -> philosopher(A, Who, N)
    end.

%% --- a child of a supervisor ends with an error, until it answers again

init(Limit) ->
    {ok, {#{strategy => one_for_one, intensity => Limit, period => 1},
          [#{id => child, start => {?MODULE, worker, []}}]}}.

worker() ->
    Pid = spawn_link(fun() -> register(savina_child, self()), up(), serve() end),
    {ok, Pid}.

up() -> case whereis(savina_main) of undefined -> ok; P -> P ! {up, erlang:monotonic_time(nanosecond)} end.

serve() -> receive fail -> exit(failed) end.

restart(P) ->
    process_flag(trap_exit, true),
    logger:set_primary_config(level, none),
    register(savina_main, self()),
    {ok, S} = supervisor:start_link(?MODULE, 1000000),
    receive {up, _} -> ok end,
    Took = [begin
                Begun = erlang:monotonic_time(nanosecond),
                savina_child ! fail,
                receive {up, At} -> At - Begun end
            end || _ <- lists:seq(1, 2000)],
    exit(S, shutdown),
    receive {'EXIT', S, _} -> ok end,
    unregister(savina_main),
    percentile(Took, P) / 1000.

%% --- requests with a timeout: what gen_server:call does

request() ->
    N = 500000,
    Server = spawn_link(fun answer/0),
    V = rate(N, fun() -> ask(Server, N) end),
    Server ! stop,
    V.

answer() -> receive {ask, From, Ref} -> From ! {Ref, ok}, answer(); stop -> ok end.

ask(_, 0) -> ok;
ask(Server, N) ->
    Ref = monitor(process, Server),
    Server ! {ask, self(), Ref},
    receive {Ref, ok} -> demonitor(Ref, [flush]) after 10000 -> exit(timeout) end,
    ask(Server, N - 1).
