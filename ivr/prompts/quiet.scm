; The synthesis of festival counts in 16 bits and overflows on some joins of this
; voice, feeding the overflow back: loud vowels crack. So what it starts from is made
; quieter first. The diphones stay in memory from one word to the next, so that each
; is made quieter only once.
(set! join_units us_unit_concat)
(set! quiet nil)
(define (us_unit_concat utt)
  (mapcar
   (lambda (unit)
     (if (not (member_string (item.name unit) quiet))
         (begin
           (set! quiet (cons (item.name unit) quiet))
           (wave.rescale (item.feat unit "sig") 0.12))))
   (utt.relation.items utt 'Unit))
  (join_units utt))
