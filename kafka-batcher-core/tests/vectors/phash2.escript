#!/usr/bin/env escript
%% Reads `hex-key <tab> partitions` lines, writes them with the partition that erlang:phash2/2 gives the key.

main([]) ->
    case io:get_line("") of
        eof ->
            ok;
        Line ->
            [Digits, Count] = string:split(string:chomp(Line), "\t"),
            Key = binary:decode_hex(list_to_binary(Digits)),
            Partition = erlang:phash2(Key, list_to_integer(Count)),
            io:format("~s\t~s\t~b~n", [Digits, Count, Partition]),
            main([])
    end.
